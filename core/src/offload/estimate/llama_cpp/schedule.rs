//! Which device does what of a batch, what is copied between them, and the memory which that takes.
//!
//! Owns the rules of ggml's scheduler: an operation runs where its weights are; many rows are computed by the first GPU also
//! where the weights are not, and these are copied to it one after the other; what reads no weights runs where its neighbours
//! do. What comes from another device is copied at the beginning of a piece of the batch, and kept as long as it is read.

use super::allocator::Allocator;
use super::tape::{Entry, Home, Id, Kind, Place, Tape};

/// From so many rows on, a GPU takes over what weights in the machine's memory are needed for.
const ROWS_TAKEN_OVER: u64 = 32;
/// Alignment of the CUDA backend's buffers, and of the host's.
const ALIGNMENT_GPU: u64 = 128;
const ALIGNMENT_HOST: u64 = 32;
/// So many batches are under way at once where GPUs work as a pipeline.
const COPIES_OF_PIPELINE: u64 = 4;

/// Returns the bytes that a batch takes to be computed on each GPU, and on the host as the last one.
pub(super) fn memory(mut tape: Tape, gpus: usize, is_pipeline: bool) -> Vec<u64> {
    let places = places(&tape, gpus);
    let plan = split(&mut tape, &places, gpus);
    allocate(&tape, &plan, gpus, if is_pipeline { COPIES_OF_PIPELINE } else { 1 })
}

/// A step of what is done, in order.
enum Step {
    /// Copies the first to the second, on another device.
    Copy(Id, Id),
    /// Does an operation.
    Do(Id),
}

/// What is done, and where each entry is.
struct Plan {
    steps: Vec<Step>,
    places: Vec<Place>,
}

/// Returns where each entry is, or is done.
fn places(tape: &Tape, gpus: usize) -> Vec<Place> {
    let mut places: Vec<Option<Place>> = (0..tape.entries.len()).map(|id| first_place(tape, id, gpus)).collect();
    // Neighbours: GPUs spread first, down and up, and then whatever is known.
    let down: Vec<Id> = tape.order.iter().copied().filter(|id| is_done(tape, *id)).collect();
    let up: Vec<Id> = down.iter().rev().copied().collect();
    for (order, also_host) in [(&down, false), (&up, false), (&down, true), (&up, true)] {
        let mut last = None;
        for id in order {
            let Some(place) = places.get_mut(*id) else { continue };
            match (*place, last) {
                (Some(known), _) => last = (also_host || known != gpus).then_some(known),
                (None, Some(_)) => *place = last,
                (None, None) => {}
            }
        }
    }
    // What is left takes the place of what it is a view of, or of who reads it.
    for id in &tape.order {
        let Some(entry) = tape.entries.get(*id) else { continue };
        let own = get(&places, *id).or_else(|| entry.view_of.and_then(|root| get(&places, root)));
        set(&mut places, *id, own.unwrap_or(gpus));
        for read in &entry.reads {
            let of_view = tape.entries.get(*read).and_then(|read| read.view_of).and_then(|root| get(&places, root));
            set(&mut places, *read, of_view.or(own).unwrap_or(gpus));
        }
    }
    places.into_iter().map(|place| place.unwrap_or(gpus)).collect()
}

fn get(places: &[Option<Place>], id: Id) -> Option<Place> {
    places.get(id).copied().flatten()
}

fn set(places: &mut [Option<Place>], id: Id, place: Place) {
    if let Some(slot) = places.get_mut(id) {
        slot.get_or_insert(place);
    }
}

/// Whether something is done at all: a view is not.
fn is_done(tape: &Tape, id: Id) -> bool {
    tape.entries.get(id).is_some_and(|entry| entry.kind != Kind::View && entry.kind != Kind::Leaf)
}

/// Returns the place that an entry has by itself.
fn first_place(tape: &Tape, id: Id, gpus: usize) -> Option<Place> {
    let entry = tape.entries.get(id)?;
    match tape.home(id) {
        Home::Weight(place) | Home::Cache(place) => return Some(place),
        Home::Input => return Some(gpus),
        Home::Pinned(place) if entry.view_of.is_none() => return Some(place),
        Home::Pinned(_) | Home::Made => {}
    }
    match entry.kind {
        Kind::Leaf | Kind::View | Kind::InPlaceAnywhere | Kind::Anywhere => return None,
        Kind::InPlace | Kind::Rows | Kind::Store | Kind::Other => {}
    }
    let weight = entry.reads.iter().find_map(|read| match tape.home(*read) {
        Home::Weight(place) => Some(place),
        Home::Made | Home::Input | Home::Cache(_) | Home::Pinned(_) => None,
    })?;
    let is_taken_over = weight == gpus && gpus > 0 && entry.kind != Kind::Rows && entry.rows >= ROWS_TAKEN_OVER;
    Some(if is_taken_over { 0 } else { weight })
}

/// Cuts what is done into pieces by device, and puts copies of what is elsewhere at the beginning of each one.
fn split(tape: &mut Tape, places: &[Place], gpus: usize) -> Plan {
    let mut places = places.to_vec();
    let mut copies = std::collections::BTreeMap::<(Id, Place), Id>::new();
    let mut pieces: Vec<(Vec<Step>, Vec<Step>)> = vec![(Vec::new(), Vec::new())];
    let order = std::mem::take(&mut tape.order);
    let mut current =
        order.iter().find(|id| is_done(tape, **id)).and_then(|id| places.get(*id)).copied().unwrap_or(gpus);
    for id in &order {
        if !is_done(tape, *id) {
            if let Some(piece) = pieces.last_mut() {
                piece.1.push(Step::Do(*id));
            }
            continue;
        }
        let place = places.get(*id).copied().unwrap_or(gpus);
        let reads = tape.entries.get(*id).map(|entry| entry.reads.clone()).unwrap_or_default();
        let elsewhere = |tape: &Tape, read: Id| place_of(tape, &places, read, gpus) != place;
        // A weight from elsewhere begins a piece, so that those before it need not be kept.
        let brings_weight = pieces.last().is_some_and(|piece| !piece.0.is_empty())
            && reads.iter().any(|read| matches!(tape.home(*read), Home::Weight(_)) && elsewhere(tape, *read));
        if place != current || brings_weight {
            pieces.push((Vec::new(), Vec::new()));
            current = place;
        }
        let foreign: Vec<Id> = reads.iter().copied().filter(|read| elsewhere(tape, *read)).collect();
        for read in foreign {
            let copy = *copies.entry((read, place)).or_insert_with(|| {
                let copy = copy_of(tape, read);
                places.push(place);
                if let Some(piece) = pieces.last_mut() {
                    piece.0.push(Step::Copy(read, copy));
                }
                copy
            });
            if let Some(entry) = tape.entries.get_mut(*id) {
                entry.reads.iter_mut().filter(|other| **other == read).for_each(|other| *other = copy);
            }
        }
        if let Some(piece) = pieces.last_mut() {
            piece.1.push(Step::Do(*id));
        }
    }
    Plan { steps: pieces.into_iter().flat_map(|(copies, does)| copies.into_iter().chain(does)).collect(), places }
}

/// Returns where the memory of an entry is.
fn place_of(tape: &Tape, places: &[Place], id: Id, gpus: usize) -> Place {
    match tape.home(id) {
        Home::Weight(place) | Home::Cache(place) => place,
        Home::Input => gpus,
        Home::Made | Home::Pinned(_) => places.get(id).copied().unwrap_or(gpus),
    }
}

fn copy_of(tape: &mut Tape, id: Id) -> Id {
    let copy = tape.entries.get(id).map(|entry| Entry {
        kind: Kind::Other,
        home: Home::Made,
        reads: Vec::new(),
        view_of: None,
        is_given_out: false,
        ..entry.clone()
    });
    let new = tape.entries.len();
    tape.entries.extend(copy);
    new
}

/// What is known of an entry while memory is given out.
#[derive(Clone, Copy, Default)]
struct Holding {
    readers: u32,
    views: u32,
    /// Where its memory begins, and on which device; `None`: it has none, or it is not its own any more.
    block: Option<(Place, u64)>,
    /// Whether it was ever given memory.
    was_placed: bool,
}

/// Gives out memory step by step, and returns how far that reaches on each device.
fn allocate(tape: &Tape, plan: &Plan, gpus: usize, copies: u64) -> Vec<u64> {
    let mut devices: Vec<Allocator> = (0..=gpus)
        .map(|place| Allocator::new(if place == gpus { ALIGNMENT_HOST } else { ALIGNMENT_GPU }))
        .collect();
    let mut held = vec![Holding::default(); tape.entries.len()];
    let mut memory = Memory { tape, plan, gpus, devices: &mut devices, held: &mut held, keeps: copies > 1 };
    for (id, entry) in tape.entries.iter().enumerate() {
        if entry.home == Home::Input {
            for _ in 1..copies {
                memory.take_more(id);
            }
            memory.place(id);
        }
    }
    for step in &plan.steps {
        match step {
            Step::Copy(from, to) => {
                memory.count(*from, 1);
                if memory.keeps {
                    for _ in 1..copies {
                        memory.take_more(*to);
                    }
                    memory.place(*to);
                }
            }
            Step::Do(id) => memory.count_reads(*id),
        }
    }
    for step in &plan.steps {
        match step {
            Step::Copy(from, to) => {
                memory.done_reading(*from);
                memory.place(*to);
            }
            Step::Do(id) => {
                memory.place(*id);
                for read in tape.entries.get(*id).map(|entry| entry.reads.as_slice()).unwrap_or_default() {
                    memory.done_reading(*read);
                }
            }
        }
    }
    devices.iter().map(Allocator::peak).collect()
}

struct Memory<'a> {
    tape: &'a Tape,
    plan: &'a Plan,
    gpus: usize,
    devices: &'a mut Vec<Allocator>,
    held: &'a mut Vec<Holding>,
    /// Whether inputs and copies are kept for ever, since several batches are under way.
    keeps: bool,
}

impl Memory<'_> {
    fn count(&mut self, id: Id, readers: u32) {
        if let Some(holding) = self.held.get_mut(id) {
            holding.readers = holding.readers.saturating_add(readers);
        }
    }

    fn count_reads(&mut self, id: Id) {
        let Some(entry) = self.tape.entries.get(id) else { return };
        if let Some(root) = entry.view_of.and_then(|root| self.held.get_mut(root)) {
            root.views = root.views.saturating_add(1);
        }
        for read in &entry.reads {
            self.count(*read, 1);
        }
    }

    fn holding(&self, id: Id) -> Holding {
        self.held.get(id).copied().unwrap_or_default()
    }

    fn bytes(&self, id: Id, place: Place) -> u64 {
        self.tape
            .entries
            .get(id)
            .map_or(0, |entry| if place == self.gpus { entry.bytes } else { entry.bytes_on_gpu })
    }

    fn place_of(&self, id: Id) -> Place {
        self.plan.places.get(id).copied().unwrap_or(self.gpus)
    }

    /// Takes memory that is never given back.
    fn take_more(&mut self, id: Id) {
        let place = self.place_of(id);
        let bytes = self.bytes(id, place);
        if let Some(device) = self.devices.get_mut(place) {
            device.take(bytes);
        }
    }

    /// Gives an entry its memory, unless it has some: that of what it reads, if it may.
    fn place(&mut self, id: Id) {
        let Some(entry) = self.tape.entries.get(id) else { return };
        let holding = self.holding(id);
        let is_external = matches!(entry.home, Home::Weight(_) | Home::Cache(_));
        if holding.was_placed || entry.view_of.is_some() || is_external {
            return;
        }
        let place = self.place_of(id);
        let block = if let Some(block) = self.reused(entry) {
            block
        } else {
            let bytes = self.bytes(id, place);
            let Some(device) = self.devices.get_mut(place) else { return };
            (place, device.take(bytes))
        };
        if let Some(holding) = self.held.get_mut(id) {
            holding.block = Some(block);
            holding.was_placed = true;
        }
    }

    /// Takes the memory of something that is read for the last time, and looks the same.
    fn reused(&mut self, entry: &Entry) -> Option<(Place, u64)> {
        if !matches!(entry.kind, Kind::InPlace | Kind::InPlaceAnywhere) {
            return None;
        }
        for read in &entry.reads {
            let Some(parent) = self.tape.entries.get(*read) else { continue };
            let holding = self.holding(*read);
            // What is a view has no memory of its own that could be taken.
            let is_same = parent.view_of.is_none()
                && parent.is_plain
                && parent.shape == entry.shape
                && parent.bytes == entry.bytes;
            if !is_same || holding.readers != 1 || holding.views != 0 {
                continue;
            }
            if self.is_kept(*read) {
                continue;
            }
            if let Some(block) = self.held.get_mut(*read).and_then(|holding| holding.block.take()) {
                return Some(block);
            }
        }
        None
    }

    /// Whether the memory of an entry is never given back.
    fn is_kept(&self, id: Id) -> bool {
        let is_given_out = self.tape.entries.get(id).is_some_and(|entry| entry.is_given_out);
        let is_kept = self.keeps
            && self.tape.entries.get(id).is_some_and(|entry| {
                entry.home == Home::Input
                    || (entry.kind == Kind::Other && entry.reads.is_empty() && entry.home == Home::Made)
            });
        is_given_out || is_kept
    }

    /// Says that something was read, and gives its memory back if that was the last time.
    fn done_reading(&mut self, id: Id) {
        let Some(holding) = self.held.get_mut(id) else { return };
        holding.readers = holding.readers.saturating_sub(1);
        if holding.readers != 0 || holding.views != 0 {
            return;
        }
        let owner = match self.tape.entries.get(id).and_then(|entry| entry.view_of) {
            None => id,
            Some(root) => {
                let Some(holding) = self.held.get_mut(root) else { return };
                holding.views = holding.views.saturating_sub(1);
                if holding.views != 0 || holding.readers != 0 {
                    return;
                }
                root
            }
        };
        if self.is_kept(owner) {
            return;
        }
        let Some((place, at)) = self.held.get_mut(owner).and_then(|holding| holding.block.take()) else { return };
        let bytes = self.bytes(owner, place);
        if let Some(device) = self.devices.get_mut(place) {
            device.give(at, bytes);
        }
    }
}
