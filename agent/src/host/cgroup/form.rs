//! The forms of the kernel's files: text in, figures out (kernel, admin-guide/cgroup-v2, "Format"; accounting/psi).

use super::Pressure;

/// Reads one line of a flat keyed file.
pub(super) fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

/// Sums the bytes read and written of `io.stat`, which has a line for each device that was used.
pub(super) fn io_bytes(text: &str) -> (u64, u64) {
    let of = |key: &str| {
        let values = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        values.fold(0, u64::saturating_add)
    };
    (of("rbytes="), of("wbytes="))
}

/// Reads a file of pressure; `None` where it has no line for `some`.
pub(super) fn pressure(text: &str) -> Option<Pressure> {
    let value = |kind: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    let average = |kind: &str| value(kind, "avg10")?.parse::<f64>().ok();
    let total = |kind: &str| value(kind, "total")?.parse::<u64>().ok();
    Some(Pressure {
        some_avg10: average("some")?,
        full_avg10: average("full"),
        some_total_usec: total("some"),
        full_total_usec: total("full"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_was_not_used_adds_nothing() {
        assert_eq!(io_bytes(""), (0, 0));
        assert_eq!(io_bytes("8:0 \n254:0 rbytes=7 wbytes=0 rios=1\n"), (7, 0));
    }

    #[test]
    fn pressure_without_its_second_line_is_read_and_nonsense_is_none() {
        // As cpu.pressure had it before Linux 5.13.
        let one = pressure("some avg10=2.04 avg60=0.75 avg300=0.40 total=157656722\n");
        assert_eq!(
            one,
            Some(Pressure {
                some_avg10: 2.04,
                full_avg10: None,
                some_total_usec: Some(157_656_722),
                full_total_usec: None,
            })
        );
        assert_eq!(pressure(""), None);
        assert_eq!(pressure("some avg10=x\nfull avg10=1.0"), None);
    }
}
