//! The official similarity JSON, written as Python's `json.dumps` writes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError, TryLockError};

use rayon::prelude::*;

use super::Ids;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernels::prefetch::prefetch;

/// Queries whose text is made at once.
const QUERIES: usize = 16;

/// Most blanks of an indentation: more is a mistake in the argument.
const MOST_BLANKS: usize = 1024;

/// How many pieces of text may wait to be written.
const WAITING: usize = 16;

/// How many entries ahead the ends of an id, and then its text, are fetched.
const AHEAD: usize = 12;

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

/// Writes the text with `out`, piece by piece and in order: on one line, or indented by so many blanks.
///
/// The threads make pieces side by side; whoever has one and finds nobody writing writes all that are next. The
/// buffers go round, as memory that is touched for the first time costs more than the text in it.
///
/// # Errors
/// [`Error::Parameter`] for more than 1024 blanks, [`Error::Shape`] if the arrays do not fit each other, [`Error::Io`] about `path` if `out` fails,
/// [`Error::Interrupted`].
pub fn write_json(
    run: Ranked<'_>,
    indent: Option<usize>,
    path: &Path,
    mut out: impl FnMut(&[u8]) -> io::Result<()> + Send,
    control: &Control,
) -> Result<()> {
    check(run)?;
    if let Some(blanks) = indent.filter(|blanks| *blanks > MOST_BLANKS) {
        return Err(Error::parameter("indent", format!("at most {MOST_BLANKS}"), blanks));
    }
    let queries = run.queries.len();
    let failed = |source| Error::Io { path: path.to_owned(), action: "write", source };
    if queries == 0 {
        return out(b"{}").map_err(failed);
    }
    let (writer, queue) = (Mutex::new(out), Mutex::new(Queue::default()));
    let next = AtomicUsize::new(0);
    let make = |piece: usize| {
        let first = piece * QUERIES;
        let last = queries.min(first + QUERIES);
        let mut text = locked(&queue).spare.pop().unwrap_or_default();
        text.clear();
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
        let crowded = {
            let mut queue = locked(&queue);
            queue.waiting.insert(piece, text);
            queue.waiting.len() > WAITING
        };
        // Who leaves the writer looks once more: a piece may have come while another could not get hold of it.
        while locked(&queue).is_ready() {
            let mut writer = match writer.try_lock() {
                Ok(writer) => writer,
                Err(TryLockError::WouldBlock) if !crowded => return Ok(()),
                Err(_) => locked(&writer),
            };
            loop {
                let Some(text) = locked(&queue).next() else { break };
                writer(text.as_bytes()).map_err(failed)?;
                locked(&queue).spare.push(text);
            }
        }
        Ok(())
    };
    // The pieces are taken one after the other, so that few wait for their turn.
    (0..rayon::current_num_threads()).into_par_iter().with_max_len(1).try_for_each(|_| {
        loop {
            let piece = next.fetch_add(1, Relaxed);
            if piece >= queries.div_ceil(QUERIES) {
                return Ok(());
            }
            make(piece)?;
        }
    })
}

/// Pieces of text between those who make them and those who write them.
#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<usize, String>,
    /// How many have been taken to be written.
    taken: usize,
    spare: Vec<String>,
}

impl Queue {
    fn is_ready(&self) -> bool {
        self.waiting.contains_key(&self.taken)
    }

    fn next(&mut self) -> Option<String> {
        let text = self.waiting.remove(&self.taken)?;
        self.taken += 1;
        Some(text)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        // Ids lie far apart.
        if let Some(&soon) = run.indices.get(entry + 2 * AHEAD) {
            prefetch(run.ids.ends_around(soon as usize));
        }
        if let Some(&soon) = run.indices.get(entry + AHEAD) {
            prefetch(run.ids.bytes(soon as usize));
        }
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
        indented(text, indent * depth);
    }
}

/// What stands behind the last member of an object.
fn close(text: &mut String, depth: usize, indent: Option<usize>) {
    if let Some(indent) = indent {
        indented(text, indent * (depth - 1));
    }
    text.push('}');
}

fn indented(text: &mut String, blanks: usize) {
    const LINE: &str = "\n                                ";
    text.push_str(&LINE[..LINE.len().min(blanks + 1)]);
    if blanks >= LINE.len() {
        text.extend(std::iter::repeat_n(' ', blanks + 1 - LINE.len()));
    }
}

/// Whether a string stands in JSON as it is. No early way out: the compiler makes vectors of it.
fn is_plain(value: &str) -> bool {
    let special = |byte: u8| !(b' '..=b'~').contains(&byte) || byte == b'"' || byte == b'\\';
    !value.bytes().fold(false, |any, byte| any | special(byte))
}

/// A string in ASCII.
fn quote(text: &mut String, value: &str) {
    text.push('"');
    if is_plain(value) {
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
    let mut buffer = zmij::Buffer::new();
    let printed = buffer.format_finite(value);
    if value == 0.0 || (1e-4..1e16).contains(&value.abs()) {
        text.push_str(printed);
        return;
    }
    let (sign, printed) = printed.strip_prefix('-').map_or(("", printed), |printed| ("-", printed));
    let (mantissa, exponent) = if let Some(digits) = printed.strip_prefix("0.0000") {
        let (first, rest) = digits.split_at(1);
        (if rest.is_empty() { first.to_owned() } else { format!("{first}.{rest}") }, "-5")
    } else {
        let (mantissa, exponent) = printed.split_once('e').unwrap_or((printed, "0"));
        (mantissa.strip_suffix(".0").unwrap_or(mantissa).to_owned(), exponent)
    };
    let exponent = exponent.strip_prefix('+').unwrap_or(exponent);
    let (direction, exponent) =
        exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    let _ = write!(text, "{sign}{mantissa}e{direction}{exponent:0>2}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            (2_251_799_813_685_249.0 / 4.0, "562949953421312.2"),
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
        let write = |run, indent| {
            let mut text = Vec::new();
            let out = |piece: &[u8]| {
                text.extend_from_slice(piece);
                Ok(())
            };
            write_json(run, indent, Path::new("run"), out, &Control::new())?;
            Ok::<_, Error>(String::from_utf8(text).unwrap())
        };
        let text = |indent| write(run, indent).unwrap();
        let second = "\"\\u00e9\\\"\\\\\\n\\u007f\\ud83d\\ude00\": {}";
        assert_eq!(text(None), format!("{{\"q\": {{\"b/1.jpg\": 2.0, \"a\": 0.5}}, {second}}}"));
        assert_eq!(
            text(Some(2)),
            format!("{{\n  \"q\": {{\n    \"b/1.jpg\": 2.0,\n    \"a\": 0.5\n  }},\n  {second}\n}}")
        );
        let none = Ranked { queries: &ids(&[]), offsets: &[0], indices: &[], scores: &[], ..run };
        assert_eq!(write(none, Some(4)).unwrap(), "{}");
        assert!(
            write(run, Some(usize::MAX)).unwrap_err().to_string().contains("indent: expected at most 1024")
        );
        let check = |run| assert!(write(run, None).is_err());
        check(Ranked { offsets: &[0, 2], ..run });
        check(Ranked { offsets: &[0, 3, 2], ..run });
        check(Ranked { indices: &[1, 2], ..run });
        check(Ranked { indices: &[1, -1], ..run });
        check(Ranked { scores: &[1.0], ..run });
    }

    #[test]
    fn pieces_keep_their_order_and_a_failure_to_write_is_told() {
        let many: Vec<String> = (0..1000).map(|query| format!("q{query}")).collect();
        let queries = ids(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let (offsets, indices) = ((0..=1000).collect::<Vec<i64>>(), vec![0; 1000]);
        let scores: Vec<f64> = (0..1000).map(f64::from).collect();
        let names = ids(&["a"]);
        let run =
            Ranked { queries: &queries, offsets: &offsets, ids: &names, indices: &indices, scores: &scores };
        let mut text = Vec::new();
        let slow = |piece: &[u8]| {
            std::thread::sleep(std::time::Duration::from_micros(200));
            text.extend_from_slice(piece);
            Ok(())
        };
        write_json(run, None, Path::new("run"), slow, &Control::new()).unwrap();
        let entries: Vec<String> =
            many.iter().zip(&scores).map(|(q, s)| format!("\"{q}\": {{\"a\": {s:.1}}}")).collect();
        assert_eq!(String::from_utf8(text).unwrap(), format!("{{{}}}", entries.join(", ")));
        let full = |_: &[u8]| Err(io::Error::from(io::ErrorKind::StorageFull));
        let error = write_json(run, None, Path::new("run"), full, &Control::new()).unwrap_err();
        assert!(matches!(error, Error::Io { action: "write", .. }), "{error}");
    }

    proptest! {
        #[test]
        fn numbers_come_back_and_are_as_short_as_they_can_be(bits: u32, wide: u64) {
            for value in [f64::from(f32::from_bits(bits)), f64::from_bits(wide)] {
                if value.is_finite() {
                    let mut text = String::new();
                    number(&mut text, value);
                    prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
                    // Of two that are as short and as near, Python prints the even one, the standard library the other.
                    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
                    let mantissa = text.split('e').next().unwrap().trim_start_matches(['-', '0', '.']);
                    let shortest = format!("{value:e}");
                    let shortest = shortest.trim_start_matches('-').split('e').next().unwrap();
                    if !(1e15..1e16).contains(&value.abs()) && value.fract() != 0.0 {
                        prop_assert_eq!(digits(mantissa), digits(shortest));
                    }
                }
            }
        }
    }
}
