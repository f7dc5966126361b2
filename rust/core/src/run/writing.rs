//! The official similarity JSON, written as Python's `json.dumps` writes it.

use std::fmt::Write as _;

use rayon::prelude::*;

use super::Ids;
use crate::control::Control;
use crate::error::{Error, Result};

/// Queries whose text is made at once.
const QUERIES: usize = 32;

/// The ranked lists of a run.
#[derive(Debug, Clone, Copy)]
pub struct Ranked<'a> {
    /// Q query ids.
    pub queries: &'a Ids,
    /// [Q + 1]; query q owns entries `offsets[q]..offsets[q + 1]`.
    pub offsets: &'a [i64],
    /// The vocabulary.
    pub ids: &'a Ids,
    /// Per entry: a position in `ids`.
    pub indices: &'a [i64],
    /// Per entry: its score, finite.
    pub scores: &'a [f64],
}

/// The text, in pieces: on one line, or indented by so many blanks.
///
/// # Errors
/// [`Error::Shape`] if the arrays do not fit each other, [`Error::Interrupted`].
pub fn write_json(run: Ranked<'_>, indent: Option<usize>, control: &Control) -> Result<Vec<String>> {
    check(run)?;
    let queries = run.queries.len();
    if queries == 0 {
        return Ok(vec!["{}".into()]);
    }
    let starts: Vec<usize> = (0..queries).step_by(QUERIES).collect();
    starts
        .into_par_iter()
        .map(|first| {
            let last = queries.min(first + QUERIES);
            let entries = (run.offsets[last] - run.offsets[first]) as usize;
            let mut text = String::with_capacity(64 * (entries + last - first) + 16);
            for query in first..last {
                control.advance(0)?;
                open(&mut text, query == 0, 1, indent);
                quote(&mut text, run.queries.get(query));
                text.push_str(": ");
                object(&mut text, run, query, indent);
            }
            if last == queries {
                close(&mut text, 1, indent);
            }
            Ok(text)
        })
        .collect()
}

fn check(run: Ranked<'_>) -> Result<()> {
    let entries = run.indices.len();
    let rising = run.offsets.first() == Some(&0)
        && run.offsets.windows(2).all(|pair| pair[0] <= pair[1])
        && run.offsets.last().is_some_and(|&last| usize::try_from(last) == Ok(entries));
    if run.offsets.len() != run.queries.len() + 1 || !rising || run.scores.len() != entries {
        let expected = format!("offsets from 0 to {entries} for each of {} queries", run.queries.len());
        return Err(Error::shape("offsets", expected, format!("{} values", run.offsets.len())));
    }
    let known = run.ids.len();
    let stray = run.indices.iter().find(|&&index| !usize::try_from(index).is_ok_and(|index| index < known));
    stray.map_or(Ok(()), |index| {
        Err(Error::shape("indices", format!("positions below {known}"), index.to_string()))
    })
}

fn object(text: &mut String, run: Ranked<'_>, query: usize, indent: Option<usize>) {
    let entries = run.offsets[query] as usize..run.offsets[query + 1] as usize;
    if entries.is_empty() {
        text.push_str("{}");
        return;
    }
    for entry in entries.clone() {
        open(text, entry == entries.start, 2, indent);
        quote(text, run.ids.get(run.indices[entry] as usize));
        text.push_str(": ");
        number(text, run.scores[entry]);
    }
    close(text, 2, indent);
}

/// What stands before a member of an object.
fn open(text: &mut String, first: bool, depth: usize, indent: Option<usize>) {
    match (first, indent) {
        (true, _) => text.push('{'),
        (false, None) => text.push_str(", "),
        (false, Some(_)) => text.push(','),
    }
    if let Some(indent) = indent {
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', indent * depth));
    }
}

/// What stands behind the last member of an object.
fn close(text: &mut String, depth: usize, indent: Option<usize>) {
    if let Some(indent) = indent {
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', indent * (depth - 1)));
    }
    text.push('}');
}

/// A string in ASCII.
fn quote(text: &mut String, value: &str) {
    text.push('"');
    if value.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\') {
        text.push_str(value);
    } else {
        for character in value.chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                ' '..='~' => text.push(character),
                _ => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        let _ = write!(text, "\\u{unit:04x}");
                    }
                }
            }
        }
    }
    text.push('"');
}

/// A finite number as Python prints it: the fewest digits that give the same float64 again, the closest of
/// those, and of two that are as close the even one.
fn number(text: &mut String, value: f64) {
    let magnitude = value.abs();
    if value == 0.0 || (1e-4..1e16).contains(&magnitude) {
        let start = text.len();
        let _ = write!(text, "{value}");
        match text[start..].find('.') {
            Some(point) => {
                let decimals = text.len() - start - point - 1;
                make_even(text, start, value, decimals as i32);
            }
            None => text.push_str(".0"),
        }
        return;
    }
    let digits = format!("{value:e}");
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
    let (sign, power) = exponent.strip_prefix('-').map_or(('+', exponent), |power| ('-', power));
    let mut mantissa = mantissa.to_string();
    if let (Some(point), Ok(shift)) = (mantissa.find('.'), exponent.parse::<i32>()) {
        let decimals = mantissa.len() - point - 1;
        make_even(&mut mantissa, 0, value, decimals as i32 - shift);
    }
    let _ = write!(text, "{mantissa}e{sign}{power:0>2}");
}

/// Makes the last digit of `text[start..]`, which stands for `value` with so many decimals, even if two digits
/// would be as close: the standard library takes the larger of them.
///
/// With f binary places a number has f decimals, of which the last is a 5: so it lies in the middle of two
/// numbers of f - 1 decimals. (Numbers without a fraction that are in the middle are beyond any score's range.)
fn make_even(text: &mut String, start: usize, value: f64, decimals: i32) {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
    let mantissa = if exponent > 0 { fraction | 1 << 52 } else { fraction };
    let places = 1075 - exponent.max(1) - mantissa.trailing_zeros() as i32;
    let last = text.as_bytes()[text.len() - 1];
    if places != decimals + 1 || last.is_multiple_of(2) {
        return;
    }
    text.pop();
    // An odd digit is not 0, so the one before needs no look.
    text.push(char::from(last - 1));
    // At a power of two the numbers below are closer to each other, and the smaller may be one of them.
    let exponent = decimals - (text.len() - start - 1 - text[start..].find('.').unwrap_or_default()) as i32;
    if format!("{}e{}", &text[start..], -exponent).parse() != Ok(value) {
        text.pop();
        text.push(char::from(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Ids {
        let mut ids = Ids::default();
        for name in names {
            ids.push(name).unwrap();
        }
        ids
    }

    #[test]
    fn numbers_look_as_in_python() {
        let expected = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-1.5e-7, "-1.5e-07"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.25e100, "1.25e+100"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::from(0.3_f32), "0.30000001192092896"),
            // In the middle of two: 0.80515289306640625 and the like.
            (105_533.0 / 131_072.0, "0.8051528930664062"),
            (105_535.0 / 131_072.0, "0.8051681518554688"),
            (-105_533.0 / 131_072.0, "-0.8051528930664062"),
            (562_949_953_421_312.25, "562949953421312.2"),
        ];
        for (value, wanted) in expected {
            let mut text = String::new();
            number(&mut text, value);
            assert_eq!(text, wanted);
        }
    }

    #[test]
    fn layouts() {
        let (queries, names) = (ids(&["q", "é\"\\\n\u{7f}😀"]), ids(&["a", "b/1.jpg"]));
        let run = Ranked {
            queries: &queries,
            offsets: &[0, 2, 2],
            ids: &names,
            indices: &[1, 0],
            scores: &[2.0, 0.5],
        };
        let text = |indent| write_json(run, indent, &Control::new()).unwrap().concat();
        let second = "\"\\u00e9\\\"\\\\\\n\\u007f\\ud83d\\ude00\": {}";
        assert_eq!(text(None), format!("{{\"q\": {{\"b/1.jpg\": 2.0, \"a\": 0.5}}, {second}}}"));
        assert_eq!(
            text(Some(2)),
            format!("{{\n  \"q\": {{\n    \"b/1.jpg\": 2.0,\n    \"a\": 0.5\n  }},\n  {second}\n}}")
        );
        let none = Ranked { queries: &ids(&[]), offsets: &[0], indices: &[], scores: &[], ..run };
        assert_eq!(write_json(none, Some(4), &Control::new()).unwrap().concat(), "{}");
        let check = |run| assert!(write_json(run, None, &Control::new()).is_err());
        check(Ranked { offsets: &[0, 2], ..run });
        check(Ranked { offsets: &[0, 3, 2], ..run });
        check(Ranked { indices: &[1, 2], ..run });
        check(Ranked { indices: &[1, -1], ..run });
        check(Ranked { scores: &[1.0], ..run });
    }
}
