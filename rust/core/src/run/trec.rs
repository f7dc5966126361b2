//! TREC run files: a line an entry, `query Q0 document rank score tag`.

use super::Lists;
use super::ids::{Ids, Interner};
use crate::control::Control;
use crate::error::{Error, Result};

/// Lines read between two looks at the control.
const BLOCK: usize = 16_384;

/// Reads the text of a file; the error names the line.
///
/// Fields are separated by spaces or tabs. The lines of a query need not follow each other. The rank is not
/// looked at: the format's own tools order by score. `NaN` and infinite scores are read as such.
pub fn read_trec(text: &[u8], control: &Control) -> Result<Lists> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = std::str::from_utf8(text)
        .map_err(|cause| Error::Format { detail: format!("not a TREC run: not UTF-8 ({cause})") })?;
    let (mut queries, mut ids) = (Interner::default(), Interner::default());
    let mut entries: Vec<(u32, u32, f64)> = Vec::new();
    for (number, line) in text.split('\n').enumerate() {
        if number % BLOCK == 0 {
            control.advance(1)?;
        }
        let mut fields = line.split([' ', '\t', '\r']).filter(|field| !field.is_empty());
        let Some(query) = fields.next() else { continue };
        let mut rest = [""; 5];
        let count = rest.iter_mut().zip(fields.by_ref()).map(|(place, field)| *place = field).count();
        // The tag may be missing, as some tools write it.
        let score = rest[3].parse::<f64>().ok().filter(|_| count >= 4 && fields.next().is_none());
        let Some(score) = score else {
            let start: String = line.chars().take(80).collect();
            return Err(Error::Format {
                detail: format!(
                    "line {}: expected 'query Q0 id rank score tag', found {start:?}",
                    number + 1
                ),
            });
        };
        if [query, rest[1]].iter().any(|id| id.as_bytes().contains(&0)) {
            return Err(Error::Format {
                detail: format!("line {}: an id holds a NUL character", number + 1),
            });
        }
        entries.push((queries.intern(query)?, ids.intern(rest[1])?, score));
    }
    let queries: Ids = queries.into_ids();
    let mut lists =
        Lists { offsets: vec![0; queries.len() + 1], queries, ids: ids.into_ids(), ..Lists::default() };
    for &(query, _, _) in &entries {
        lists.offsets[query as usize + 1] += 1;
    }
    for query in 1..lists.offsets.len() {
        lists.offsets[query] += lists.offsets[query - 1];
    }
    let mut next = lists.offsets.clone();
    lists.indices = vec![0; entries.len()];
    lists.scores = vec![0.0; entries.len()];
    for (query, id, score) in entries {
        let at = next[query as usize] as usize;
        next[query as usize] += 1;
        lists.indices[at] = i64::from(id);
        lists.scores[at] = score;
    }
    Ok(lists)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Lists> {
        read_trec(text.as_bytes(), &Control::new())
    }

    #[test]
    fn lines_of_a_query_are_gathered() {
        let lists = read("q Q0 a 1 0.5 x\nr Q0 b 1 1e-3 x\r\n\n q\tQ0  c 2 -3 \n").unwrap();
        assert!(lists.queries.iter().eq(["q", "r"]));
        assert!(lists.ids.iter().eq(["a", "b", "c"]));
        assert_eq!(lists.offsets, [0, 2, 3]);
        assert_eq!(lists.indices, [0, 2, 1]);
        assert_eq!(lists.scores, [0.5, -3.0, 1e-3]);
        assert_eq!(read("").unwrap().offsets, [0]);
        // As some editors of Windows begin a file.
        assert!(read("\u{feff}q Q0 a 1 0.5 x").unwrap().queries.iter().eq(["q"]));
    }

    #[test]
    fn a_wrong_line_is_named() {
        for text in ["q Q0 a 1", "q Q0 a 1 x t", "q Q0 a 1 0.5 t more", "q Q0 a\0 1 0.5 t", "q"] {
            let message = read(&format!("q Q0 a 1 0.5 t\n{text}\n")).unwrap_err().to_string();
            assert!(message.starts_with("line 2:"), "{message}");
        }
        assert!(read_trec(b"\xff", &Control::new()).is_err());
    }
}
