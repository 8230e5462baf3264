//! A bar of which each part has its share, and none that is there is too small to be seen.

/// Returns how many columns of a bar each part has. Together they are `width`, as long as any part is not 0; a part that is
/// not 0 has at least one, as long as there are enough.
pub(super) fn columns(parts: &[u64], width: usize) -> Vec<usize> {
    let whole: u128 = parts.iter().copied().map(u128::from).sum();
    let mut columns = Vec::with_capacity(parts.len());
    let (mut sum, mut end) = (0_u128, 0);
    for part in parts {
        sum += u128::from(*part);
        // Where it ends, rounded: the ends of all of them add up, their widths need not.
        let at = (sum * (width as u128) * 2 + whole).checked_div(whole * 2).unwrap_or(0);
        let at = usize::try_from(at).unwrap_or(width).min(width);
        columns.push(at - end);
        end = at;
    }
    for index in 0..parts.len() {
        let is_unseen = parts.get(index).is_some_and(|part| *part > 0) && columns.get(index) == Some(&0);
        let widest = (0..columns.len()).max_by_key(|other| columns.get(*other));
        let Some(widest) = widest.filter(|widest| is_unseen && columns.get(*widest).is_some_and(|w| *w > 1)) else {
            continue;
        };
        if let Some(columns) = columns.get_mut(widest) {
            *columns -= 1;
        }
        if let Some(columns) = columns.get_mut(index) {
            *columns += 1;
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_share_is_as_wide_as_it_is_large() {
        assert_eq!(columns(&[6, 0, 3, 3], 12), [6, 0, 3, 3]);
        assert_eq!(columns(&[1, 1, 1], 10), [3, 4, 3]);
        assert_eq!(columns(&[1_000_000, 1, 1], 10), [8, 1, 1]);
        assert_eq!(columns(&[0, 0], 10), [0, 0]);
        assert_eq!(columns(&[], 10), [0_usize; 0]);
        assert_eq!(columns(&[u64::MAX, u64::MAX], 10), [5, 5]);
    }

    proptest! {
        #[test]
        fn a_bar_is_full_and_hides_nothing(parts in prop::collection::vec(prop_oneof![Just(0), any::<u64>(), 0..9_u64], 0..9),
                                           width in 1..200_usize) {
            let columns = columns(&parts, width);
            let seen = parts.iter().filter(|part| **part > 0).count();
            prop_assert_eq!(columns.len(), parts.len());
            prop_assert_eq!(columns.iter().sum::<usize>(), if seen == 0 { 0 } else { width });
            for (part, columns) in parts.iter().zip(&columns) {
                prop_assert!(*part > 0 || *columns == 0, "what is nothing is not drawn");
                prop_assert!(*part == 0 || *columns > 0 || width < seen, "{:?}", columns);
            }
        }
    }
}
