//! Statistics that more than one rule needs.

/// The middle one of `values`, or the mean of the two in the middle; NaN where there is none. Their order is lost.
///
/// ```
/// use watchfire_plugin_sdk::stats::median;
///
/// assert_eq!(median(&mut [9.0, 1.0, 2.0]), 2.0);
/// assert_eq!(median(&mut [4.0, 1.0, 2.0, 9.0]), 3.0);
/// assert!(median(&mut []).is_nan());
/// ```
pub fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let middle = values.len() / 2;
    let even = values.len().is_multiple_of(2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if even {
        let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        f64::midpoint(lower, upper)
    } else {
        upper
    }
}
