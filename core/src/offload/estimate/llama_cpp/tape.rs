//! What llama.cpp computes of one batch, as a list of operations with the sizes of what they read and write.
//!
//! Owns the list alone: `layers` writes it, `schedule` says which device does what, `allocator` what memory that takes.

/// Where something is kept or computed: a GPU by its number, or the machine's memory, which is the number after the last one.
pub(super) type Place = usize;

/// An entry of a tape.
pub(super) type Id = usize;

/// What an operation does, as far as its memory depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: it is read.
    Leaf,
    /// The same numbers in another shape.
    View,
    /// May write over what it reads, if nobody else does.
    InPlace,
    /// The same, and where it runs does not depend on weights (rotation by position).
    InPlaceAnywhere,
    /// Where it runs does not depend on weights (attention in one pass).
    Anywhere,
    /// Looks rows up: never taken over by a GPU.
    Rows,
    /// Writes into something that is there already.
    Store,
    /// Anything else.
    Other,
}

/// Where what an entry holds comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// It is made in the course of the batch.
    Made,
    /// It is given with each batch.
    Input,
    /// It is a weight of the model, and lies there.
    Weight(Place),
    /// It is keys, values or states of the context, and lies there.
    Cache(Place),
    /// It is made, and there.
    Pinned(Place),
}

/// What an entry is.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) home: Home,
    /// Bytes that it takes.
    pub(super) bytes: u64,
    /// Bytes that it takes on a GPU, where that is more.
    pub(super) bytes_on_gpu: u64,
    /// Numbers in each dimension, the innermost first.
    pub(super) shape: [u64; 4],
    /// Whether the numbers lie one after the other, 4 bytes each.
    pub(super) is_plain: bool,
    /// How many rows are computed at once: a GPU takes over what has many.
    pub(super) rows: u64,
    /// What it reads.
    pub(super) reads: Vec<Id>,
    /// What it is a view of, and nothing of its own.
    pub(super) view_of: Option<Id>,
    /// Whether it is given out, and stays where it is until all is done.
    pub(super) is_given_out: bool,
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Tape {
    pub(super) entries: Vec<Entry>,
    /// The operations, in their order; without leaves.
    pub(super) order: Vec<Id>,
    /// How many of them are asked for: the others are only needed by what comes later.
    asked: usize,
}

impl Tape {
    /// Adds something that is there already, or is given.
    pub(super) fn leaf(&mut self, home: Home, bytes: u64, shape: [u64; 4]) -> Id {
        self.entries.push(Entry {
            kind: Kind::Leaf,
            home,
            bytes,
            bytes_on_gpu: bytes,
            shape,
            is_plain: false,
            rows: 0,
            reads: Vec::new(),
            view_of: None,
            is_given_out: false,
        });
        self.entries.len().saturating_sub(1)
    }

    /// Adds an operation that writes numbers of 4 bytes.
    pub(super) fn make(&mut self, kind: Kind, shape: [u64; 4], reads: &[Id]) -> Id {
        let rows = shape.iter().skip(1).fold(1_u64, |rows, extent| rows.saturating_mul(*extent));
        self.make_rows(kind, shape, rows, reads)
    }

    /// Adds such an operation, and how many rows it computes at once, where those are not all.
    pub(super) fn make_rows(&mut self, kind: Kind, shape: [u64; 4], rows: u64, reads: &[Id]) -> Id {
        let bytes = shape.iter().fold(4_u64, |bytes, extent| bytes.saturating_mul(*extent));
        self.push(Entry {
            kind,
            home: Home::Made,
            bytes,
            bytes_on_gpu: bytes,
            shape,
            is_plain: true,
            rows,
            reads: reads.to_vec(),
            view_of: None,
            is_given_out: false,
        })
    }

    /// Multiplies with a matrix.
    pub(super) fn multiply(&mut self, shape: [u64; 4], reads: &[Id]) -> Id {
        self.make_rows(Kind::Other, shape, shape[1], reads)
    }

    /// Adds a view; `is_plain`: its numbers still lie one after the other, from the beginning on.
    pub(super) fn view(&mut self, of: Id, shape: [u64; 4], is_plain: bool) -> Id {
        let (root, bytes, on_gpu) = self
            .entries
            .get(of)
            .map_or((of, 0, 0), |entry| (entry.view_of.unwrap_or(of), entry.bytes, entry.bytes_on_gpu));
        self.push(Entry {
            kind: Kind::View,
            home: Home::Made,
            bytes,
            bytes_on_gpu: on_gpu,
            shape,
            is_plain,
            rows: 0,
            reads: vec![of],
            view_of: Some(root),
            is_given_out: false,
        })
    }

    /// Adds a view of a part, of so many bytes.
    pub(super) fn part(&mut self, of: Id, shape: [u64; 4], bytes: u64) -> Id {
        let view = self.view(of, shape, false);
        if let Some(entry) = self.entries.get_mut(view) {
            entry.bytes = bytes;
            entry.bytes_on_gpu = bytes;
        }
        view
    }

    /// Adds a view of numbers that lie one after the other, from the beginning on.
    pub(super) fn beginning(&mut self, of: Id, shape: [u64; 4]) -> Id {
        let bytes = shape.iter().fold(4_u64, |bytes, extent| bytes.saturating_mul(*extent));
        let view = self.part(of, shape, bytes);
        if let Some(entry) = self.entries.get_mut(view) {
            entry.is_plain = true;
        }
        view
    }

    /// Writes into something that is there already.
    pub(super) fn store(&mut self, into: Id, reads: &[Id]) -> Id {
        let root = self.entries.get(into).and_then(|entry| entry.view_of).unwrap_or(into);
        let mut all = reads.to_vec();
        all.push(into);
        self.push(Entry {
            kind: Kind::Store,
            home: Home::Made,
            bytes: 0,
            bytes_on_gpu: 0,
            shape: [0; 4],
            is_plain: false,
            rows: 1,
            reads: all,
            view_of: Some(root),
            is_given_out: false,
        })
    }

    /// Says where something has to be made.
    pub(super) fn pin(&mut self, id: Id, place: Place) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.home = Home::Pinned(place);
        }
    }

    /// Says that something is given out.
    pub(super) fn give_out(&mut self, id: Id) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.is_given_out = true;
        }
    }

    /// Says that something takes more on a GPU.
    pub(super) fn grow_on_gpu(&mut self, id: Id, bytes: u64) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.bytes_on_gpu = entry.bytes_on_gpu.saturating_add(bytes);
        }
    }

    /// The home of what an entry really is: of a view, that of what it is a view of.
    pub(super) fn home(&self, id: Id) -> Home {
        let Some(entry) = self.entries.get(id) else { return Home::Made };
        match entry.view_of.and_then(|root| self.entries.get(root)) {
            Some(root) => root.home,
            None => entry.home,
        }
    }

    /// Says that all that is written down is done before what is asked for from here on.
    pub(super) fn ask(&mut self) {
        self.asked = self.order.len();
    }

    /// Begins to write down what is asked for before what is not yet, and returns the latter.
    pub(super) fn step_back(&mut self) -> Vec<Id> {
        self.order.split_off(self.asked.min(self.order.len()))
    }

    /// Goes on behind what was not asked for yet.
    pub(super) fn step_forward(&mut self, later: Vec<Id>) {
        self.ask();
        self.order.extend(later);
    }

    fn push(&mut self, entry: Entry) -> Id {
        let id = self.entries.len();
        self.entries.push(entry);
        self.order.push(id);
        id
    }
}
