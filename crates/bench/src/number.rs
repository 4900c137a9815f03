//! Numbers as tables and plots show them.

/// A number with three significant digits, and commas between the thousands.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        big if big >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        one if one >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut shown = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 && !shown.ends_with('-') {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [12_345.6, 1_000.0, 99.95, 3.456_78, 0.0421, 999_999.0].map(number);
        assert_eq!(
            shown,
            ["12,346", "1,000", "100.0", "3.46", "0.042", "999,999"]
        );
    }
}
