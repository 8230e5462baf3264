//! Switch marks: which system an instance was switched to while it runs, beside what its environment says.
//!
//! A switch that has begun and not ended leaves a guest of which nobody knows what it runs: its mark names no system, so that the
//! instance counts as none of those that are declared, and is switched once more.

use crate::model::{InvocationId, Spec, SpecField};

/// Returns the text of a mark. `to` is what the instance was switched to; `None`: the switch has only begun.
#[must_use]
pub fn switch_mark(invocation: InvocationId, to: Option<&Spec>) -> String {
    match to.and_then(|spec| spec.get(SpecField::System)) {
        Some(hash) => format!("{invocation} {hash:08x}\n"),
        None => format!("{invocation} -\n"),
    }
}

/// Returns what an instance runs that was started with this, as its mark has it. A mark of another instance says nothing.
/// `invocation` is its id as systemd writes it; empty: not known.
#[must_use]
pub fn switched(started_with: Spec, invocation: &str, mark: Option<&str>) -> Spec {
    match mark.and_then(|mark| mark.trim_end().split_once(' ')).filter(|(of, _)| *of == invocation) {
        Some((_, hash)) => started_with.with(SpecField::System, u32::from_str_radix(hash, 16).ok()),
        None => started_with,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_of_its_own_instance_what_it_runs() {
        let spec = |text: &str| text.parse::<Spec>().unwrap();
        let id = InvocationId(7);
        let (this, other) = (id.to_string(), InvocationId(8).to_string());
        let (old, new) = (spec("system:00000001,network:00000002"), spec("system:0000000a,network:00000002"));
        let done = switch_mark(id, Some(&new));
        assert_eq!(switched(old.clone(), &this, Some(&done)), new);
        assert_eq!(switched(old.clone(), &other, Some(&done)), old);
        assert_eq!(switched(old.clone(), "", Some(&done)), old);
        assert_eq!(switched(old.clone(), &this, None), old);
        let begun = switch_mark(id, None);
        assert_eq!(switched(old.clone(), &this, Some(&begun)), spec("network:00000002"));
        assert_eq!(switched(old.clone(), &this, Some("torn")), old);
    }
}
