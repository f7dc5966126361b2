//! The official similarity JSON, `{query: {database id: score}}`, read in one pass without a tree.
//!
//! The grammar is that of JSON, with `NaN` and `Infinity` as Python writes them (the caller refuses them by
//! name). Nothing nests deeper than the format does, so no file can exhaust the stack.

use super::Lists;
use super::ids::{Interner, check_id};
use crate::control::Control;
use crate::error::{Error, Result};

/// Entries of a query read between two looks at the control.
const BLOCK: usize = 16_384;

/// Reads the text of a file; the error says what was expected where.
///
/// Ids may repeat: whether that is an error is for the caller to say.
pub fn read_json(text: &[u8], control: &Control) -> Result<Lists> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = std::str::from_utf8(text)
        .map_err(|cause| Error::Format { detail: format!("not a JSON file: not UTF-8 ({cause})") })?;
    let mut reader = Reader { text, at: 0, unescaped: String::new() };
    let mut lists = Lists { offsets: vec![0], ..Lists::default() };
    // An entry of the official writer has about 60 bytes, a third to half of them the id.
    let mut ids = Interner::with_capacity(text.len() / 60, text.len() / 2);
    reader.space();
    if reader.peek() != Some(b'{') {
        return Err(reader.wrong(|found| format!("expected an object of queries, found {found}")));
    }
    reader.object(|reader, query| {
        control.advance(1)?;
        let query = reader.owned(query);
        lists.queries.push(&query).map_err(|_| bad_id("query", lists.offsets.len() - 1, &query))?;
        if reader.peek() != Some(b'{') {
            return Err(reader.wrong(|found| {
                format!("query '{query}': expected an object of scores by database id, found {found}")
            }));
        }
        reader.object(|reader, key| {
            let position = ids.ids().len();
            let row = match key {
                Key::Plain(start, end) => {
                    let id = &reader.text[start..end];
                    check_id(id).map_err(|_| bad_id("database", position, id))?;
                    ids.intern(id)?
                }
                Key::Escaped => {
                    check_id(&reader.unescaped)
                        .map_err(|_| bad_id("database", position, &reader.unescaped))?;
                    ids.intern(&reader.unescaped)?
                }
            };
            let score = reader
                .number(|| format!("query '{query}', database id '{}'", ids.ids().get(row as usize)))?;
            lists.indices.push(i64::from(row));
            lists.scores.push(score);
            if lists.indices.len().is_multiple_of(BLOCK) { control.advance(0) } else { Ok(()) }
        })?;
        lists.offsets.push(lists.indices.len() as i64);
        Ok(())
    })?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.not_json("nothing more"));
    }
    lists.ids = ids.into_ids();
    Ok(lists)
}

fn bad_id(kind: &str, position: usize, id: &str) -> Error {
    Error::Format {
        detail: format!("{kind} id {position}: expected a non-empty string without NUL, found {id:?}"),
    }
}

/// A key of an object: a piece of the text, or the reader's buffer if escapes had to be resolved.
#[derive(Clone, Copy)]
enum Key {
    Plain(usize, usize),
    Escaped,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    unescaped: String,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn not_json(&self, expected: &str) -> Error {
        let before = &self.text.as_bytes()[..self.at.min(self.text.len())];
        let line = before.split(|&byte| byte == b'\n').count();
        let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
        let found = self
            .text
            .get(self.at..)
            .and_then(|rest| rest.chars().next())
            .map_or("the end".into(), |character| format!("{character:?}"));
        Error::Format {
            detail: format!(
                "not a JSON file: expected {expected} at line {line}, column {column}, found {found}"
            ),
        }
    }

    /// An error about a value that is not of the kind wanted, if it begins as some JSON value does.
    fn wrong(&self, detail: impl Fn(&str) -> String) -> Error {
        let rest = &self.text.as_bytes()[self.at..];
        let kind = match rest.first() {
            Some(b'{') => "an object",
            // A list must at least end or go on with a value to be called one.
            Some(b'[') if rest.get(1) != Some(&b'[') => "a list",
            Some(b'"') => "a string",
            _ if rest.starts_with(b"true") || rest.starts_with(b"false") => "a boolean",
            _ if rest.starts_with(b"null") => "nothing (null)",
            Some(b'0'..=b'9' | b'-' | b'N' | b'I') if rest.len() < 400 => "a number",
            _ => return self.not_json("a value"),
        };
        Error::Format { detail: detail(kind) }
    }

    fn owned(&self, key: Key) -> String {
        match key {
            Key::Plain(start, end) => self.text[start..end].to_owned(),
            Key::Escaped => self.unescaped.clone(),
        }
    }

    /// Reads an object; `member` is called after each `"key":` and reads the value.
    fn object(&mut self, mut member: impl FnMut(&mut Self, Key) -> Result<()>) -> Result<()> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.not_json("a string in double quotes"));
            }
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.not_json("':'"));
            }
            self.at += 1;
            self.space();
            member(self, key)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.not_json("',' or '}'")),
            }
            self.space();
        }
    }

    /// Reads a string; the reader stands on its opening quote.
    fn string(&mut self) -> Result<Key> {
        let start = self.at + 1;
        self.at = start;
        self.plain();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Key::Plain(start, self.at - 1));
        }
        self.unescaped.clear();
        self.unescaped.push_str(&self.text[start..self.at]);
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Key::Escaped);
                }
                Some(b'\\') => {
                    let character = self.escape()?;
                    self.unescaped.push(character);
                }
                _ => return Err(self.not_json("the end of a string")),
            }
            let start = self.at;
            self.plain();
            self.unescaped.push_str(&self.text[start..self.at]);
        }
    }

    /// Moves to the next quote, backslash or control character.
    fn plain(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        let special = |&byte: &u8| byte == b'"' || byte == b'\\' || byte < 0x20;
        self.at += rest.iter().position(special).unwrap_or(rest.len());
    }

    fn escape(&mut self) -> Result<char> {
        let begin = self.at;
        self.at += 2;
        let character = match self.text.as_bytes().get(begin + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let mut unit = self.four_digits()?;
                if (0xd800..0xdc00).contains(&unit) && self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                    self.at += 2;
                    let low = self.four_digits()?;
                    if (0xdc00..0xe000).contains(&low) {
                        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                    }
                }
                return char::from_u32(unit).ok_or_else(|| {
                    self.at = begin;
                    self.not_json("valid Unicode (no half surrogate pair)")
                });
            }
            _ => {
                self.at = begin + 1;
                return Err(self.not_json("an escape of JSON"));
            }
        };
        Ok(character)
    }

    fn four_digits(&mut self) -> Result<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).unwrap_or_default();
        let mut value = 0;
        for &digit in digits {
            let Some(digit) = char::from(digit).to_digit(16) else {
                return Err(self.not_json("four hexadecimal digits"));
            };
            value = value << 4 | digit;
        }
        if digits.len() < 4 {
            return Err(self.not_json("four hexadecimal digits"));
        }
        self.at += 4;
        Ok(value)
    }

    /// Reads a number; `place` names it if it is something else.
    fn number(&mut self, place: impl Fn() -> String) -> Result<f64> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let negative = usize::from(self.peek() == Some(b'-'));
        for (word, value) in [("NaN", f64::NAN), ("Infinity", f64::INFINITY)] {
            if self.text[start + negative..].starts_with(word) {
                self.at += negative + word.len();
                return Ok(if negative == 1 { -value } else { value });
            }
        }
        let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let whole = digits(start + negative);
        let mut end = start + negative + whole;
        if whole == 0 || whole > 1 && bytes[start + negative] == b'0' {
            return Err(self.wrong(|found| format!("{}: expected a number, found {found}", place())));
        }
        let mut float = false;
        if bytes.get(end) == Some(&b'.') {
            let fraction = digits(end + 1);
            if fraction == 0 {
                self.at = end + 1;
                return Err(self.not_json("a digit"));
            }
            end += 1 + fraction;
            float = true;
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let power = digits((end + 1 + sign).min(bytes.len()));
            if power == 0 {
                self.at = end + 1;
                return Err(self.not_json("a digit"));
            }
            end += 1 + sign + power;
            float = true;
        }
        self.at = end;
        let value = self.text[start..end].parse().unwrap_or(f64::NAN);
        if !float && f64::is_infinite(value) {
            return Err(Error::Format { detail: format!("{}: a score is larger than any float64", place()) });
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Lists> {
        read_json(text.as_bytes(), &Control::new())
    }

    #[test]
    fn reads_what_the_official_writer_writes() {
        let lists = read("\u{feff} {\"q\": {\n \"a\": 0.5, \"b\\u00fc\\ud83d\\ude00\\n\": -1e-3}, \"r\":{}, \"q\":{\"a\":7}} \n").unwrap();
        assert!(lists.queries.iter().eq(["q", "r", "q"]));
        assert!(lists.ids.iter().eq(["a", "bü😀\n"]));
        assert_eq!(lists.offsets, [0, 2, 2, 3]);
        assert_eq!(lists.indices, [0, 1, 0]);
        assert_eq!(lists.scores, [0.5, -1e-3, 7.0]);
        assert_eq!(read("{}").unwrap().offsets, [0]);
        let odd = read("{\"q\": {\"a\": NaN, \"b\": -Infinity, \"c\": 1e999}}").unwrap().scores;
        assert!(odd[0].is_nan() && odd[1] == f64::NEG_INFINITY && odd[2] == f64::INFINITY);
    }

    #[test]
    fn what_is_not_the_format_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "{\"",
            "{\"q",
            "{\"q\"",
            "{\"q\":",
            "{\"q\":{",
            "{\"q\":{\"a\"",
            "{\"q\":{\"a\":",
            "{\"q\":{\"a\":1",
            "{\"q\":{\"a\":1}",
            "{\"q\":{\"a\":1}}x",
            "{\"q\":{\"a\":1,}}",
            "{\"q\":{,}}",
            "{\"q\":{\"a\":01}}",
            "{\"q\":{\"a\":1.}}",
            "{\"q\":{\"a\":.5}}",
            "{\"q\":{\"a\":1e}}",
            "{\"q\":{\"a\":1e",
            "{\"q\":{\"a\":-}}",
            "{\"q\":{\"a\":+1}}",
            "{\"q\":{\"a\\x\":1}}",
            "{\"q\":{\"a\\u12\":1}}",
            "{\"q\":{\"a\\u12",
            "{\"q\":{\"\\ud800\":1}}",
            "{\"q\":{\"a\n\":1}}",
            "{\"q\":{a:1}}",
            "{\"q\":{\"\":1}}",
            "{\"\":{}}",
            "[]",
            "{\"q\":[1]}",
            "{\"q\":{\"a\":{}}}",
            "{\"q\":{\"a\":true}}",
            "{\"q\":{\"a\\",
        ] {
            assert!(matches!(read(text), Err(Error::Format { .. })), "{text:?}");
        }
        assert!(read_json(b"{\"\xff\": {}}", &Control::new()).is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(
            lists in proptest::collection::vec(("\\PC{1,4}", proptest::collection::vec(("\\PC{1,3}", -1e3_f64..1e3), 0..5)), 0..5)
        ) {
            let object = |members: Vec<String>| format!("{{{}}}", members.join(" ,\n"));
            let text = object(lists.iter().map(|(query, entries)| {
                let inner = entries.iter().map(|(id, score)| format!("{}:{score}", serde_json::to_string(id).unwrap()));
                format!("{} : {}", serde_json::to_string(query).unwrap(), object(inner.collect()))
            }).collect());
            let found = read(&text).unwrap();
            prop_assert!(found.queries.iter().eq(lists.iter().map(|(query, _)| query.as_str())));
            let entries: Vec<_> = lists.iter().flat_map(|(_, entries)| entries).collect();
            prop_assert_eq!(&found.scores, &entries.iter().map(|(_, score)| *score).collect::<Vec<_>>());
            let names: Vec<&str> = found.indices.iter().map(|&row| found.ids.get(row as usize)).collect();
            prop_assert_eq!(names, entries.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>());
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\\{\\}\",:\\\\ua0-9eN.\\- \\[]{0,40}") {
            let _ = read(&text);
        }
    }
}
