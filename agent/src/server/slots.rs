//! Places for connections: how many there are, and who may have one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Limits, Role};

/// The places that are taken.
#[derive(Debug, Default)]
pub(super) struct Slots(RefCell<Taken>);

#[derive(Debug, Default)]
struct Taken {
    by_user: BTreeMap<u32, usize>,
    /// Those of users without a role.
    without_role: usize,
}

/// A place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Rc<Slots>,
    uid: u32,
    role: Option<Role>,
}

impl Slots {
    /// Takes a place for a connection; `None` when there is none for this user.
    pub(super) fn take(self: &Rc<Self>, uid: u32, role: Option<Role>, limits: &Limits) -> Option<Slot> {
        let mut taken = self.0.borrow_mut();
        let total: usize = taken.by_user.values().sum();
        let room = match role {
            Some(Role::Operator) => limits.connections,
            Some(Role::Observer) | None => limits.connections.saturating_sub(limits.connections_for_operators),
        };
        let own = taken.by_user.get(&uid).copied().unwrap_or(0);
        let crowded = role.is_none() && taken.without_role >= limits.connections_without_role;
        if total >= room || crowded || (uid != 0 && own >= limits.connections_per_user) {
            return None;
        }
        taken.by_user.insert(uid, own + 1);
        taken.without_role += usize::from(role.is_none());
        Some(Slot { slots: Rc::clone(self), uid, role })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.0.borrow_mut();
        if self.role.is_none() {
            taken.without_role = taken.without_role.saturating_sub(1);
        }
        if let Some(count) = taken.by_user.get_mut(&self.uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.by_user.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: fn() -> Limits =
        || Limits { connections: 6, connections_per_user: 2, connections_for_operators: 2, ..Limits::default() };

    #[test]
    fn one_user_cannot_take_the_places_of_another() {
        let slots = Rc::new(Slots::default());
        let take = |uid| slots.take(uid, None, &LIMITS());
        let first = [take(1), take(1)];
        assert!(first.iter().all(Option::is_some));
        assert!(take(1).is_none());
        assert!(take(2).is_some());
        drop(first);
        assert!(take(1).is_some());
    }

    #[test]
    fn many_users_together_leave_places_for_operators() {
        let slots = Rc::new(Slots::default());
        let taken: Vec<_> = (1..=4).map(|uid| slots.take(uid, Some(Role::Observer), &LIMITS())).collect();
        assert!(taken.iter().all(Option::is_some));
        assert!(slots.take(5, Some(Role::Observer), &LIMITS()).is_none());
        let operators =
            [slots.take(6, Some(Role::Operator), &LIMITS()), slots.take(0, Some(Role::Operator), &LIMITS())];
        assert!(operators.iter().all(Option::is_some));
        assert!(slots.take(0, Some(Role::Operator), &LIMITS()).is_none());
    }

    #[test]
    fn users_without_a_role_leave_places_for_those_with_one() {
        let slots = Rc::new(Slots::default());
        let limits = Limits { connections_without_role: 3, ..LIMITS() };
        let taken: Vec<_> = (1..=3).map(|uid| slots.take(uid, None, &limits)).collect();
        assert!(taken.iter().all(Option::is_some));
        assert!(slots.take(4, None, &limits).is_none());
        assert!(slots.take(4, Some(Role::Observer), &limits).is_some());
        drop(taken);
        assert!(slots.take(4, None, &limits).is_some());
    }

    #[test]
    fn root_is_not_counted_like_others() {
        let slots = Rc::new(Slots::default());
        let taken: Vec<_> = (0..6).map(|_| slots.take(0, Some(Role::Operator), &LIMITS())).collect();
        assert!(taken.iter().all(Option::is_some));
    }
}
