//! Many ids as one text: a few bytes each besides their own, and found by hash.

use std::hash::{BuildHasher, RandomState};

use rayon::prelude::*;
use twox_hash::XxHash3_64;

use crate::control::Control;
use crate::error::{Error, Result};

/// Ids looked up between two looks at the control.
const BLOCK: usize = 16_384;

/// A list of ids, one text with the end of each; any id may occur more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    text: String,
    ends: Vec<u64>,
}

impl Ids {
    /// A list of `text` cut at `ends`, which rise to its length and lie between characters.
    pub fn new(text: String, ends: Vec<u64>) -> Result<Self> {
        let mut start = 0;
        for (position, &end) in ends.iter().enumerate() {
            let id = usize::try_from(end).ok().and_then(|end| text.get(start..end)).ok_or_else(|| {
                Error::parameter("offsets", format!("a rise at {position} to a place in the text"), end)
            })?;
            check_id(id).map_err(|found| fault(position, found))?;
            start += id.len();
        }
        if start == text.len() {
            Ok(Self { text, ends })
        } else {
            Err(Error::parameter("offsets", format!("{} at the end", text.len()), start))
        }
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The id at a position below [`Self::len`].
    pub fn get(&self, position: usize) -> &str {
        let start = if position == 0 { 0 } else { self.ends[position - 1] as usize };
        &self.text[start..self.ends[position] as usize]
    }

    /// The same as bytes, without a look at them.
    pub(super) fn bytes(&self, position: usize) -> &[u8] {
        let start = if position == 0 { 0 } else { self.ends[position - 1] as usize };
        &self.text.as_bytes()[start..self.ends[position] as usize]
    }

    /// What is read to find an id.
    pub(super) fn ends_around(&self, position: usize) -> &[u64] {
        &self.ends[position.saturating_sub(1)..=position]
    }

    /// The ids in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|position| self.get(position))
    }

    /// Appends an id; an error if it is empty or holds a NUL character.
    pub fn push(&mut self, id: &str) -> Result<()> {
        check_id(id).map_err(|found| fault(self.len(), found))?;
        self.append(id);
        Ok(())
    }

    /// The text of all ids, one after the other.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where each id ends in the text, in bytes.
    pub fn ends(&self) -> &[u64] {
        &self.ends
    }

    /// Appends all of another list.
    pub fn extend(&mut self, other: &Self) {
        let start = self.text.len() as u64;
        self.text.push_str(&other.text);
        self.ends.extend(other.ends.iter().map(|end| start + end));
    }

    fn append(&mut self, id: &str) {
        self.text.push_str(id);
        self.ends.push(self.text.len() as u64);
    }
}

/// What is wrong with an id, if anything: empty, or a NUL character in it.
pub fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() || id.as_bytes().contains(&0) { Err(format!("{id:?}")) } else { Ok(()) }
}

fn fault(position: usize, found: String) -> Error {
    Error::parameter(format!("id {position}"), "a non-empty string of valid Unicode without NUL", found)
}

/// Distinct ids with the position of each.
#[derive(Clone, Debug)]
pub struct Interner {
    ids: Ids,
    /// (upper half of the hash, position + 1); a position of 0 is a free slot. The length is a power of two.
    slots: Vec<(u32, u32)>,
    /// Unpredictable, so that nobody can make a file whose ids all collide.
    seed: u64,
}

impl Default for Interner {
    fn default() -> Self {
        Self { ids: Ids::default(), slots: vec![(0, 0); 1024], seed: RandomState::new().hash_one(0) }
    }
}

impl Interner {
    /// Room for about `ids` ids of `bytes` bytes together, so that filling it moves nothing.
    pub fn with_capacity(ids: usize, bytes: usize) -> Self {
        let slots = vec![(0, 0); (ids + ids / 2).next_power_of_two().max(1024)];
        let list = Ids { text: String::with_capacity(bytes), ends: Vec::with_capacity(ids) };
        Self { ids: list, slots, ..Self::default() }
    }

    /// The distinct ids, in the order they first came.
    pub fn into_ids(self) -> Ids {
        self.ids
    }

    /// The distinct ids so far.
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// The position of an id, appended if it is new; the id is taken as it is.
    pub fn intern(&mut self, id: &str) -> Result<u32> {
        let hash = self.hash(id.as_bytes());
        match self.probe(hash, id.as_bytes()) {
            Ok(position) => Ok(position),
            Err(mut slot) => {
                let position = u32::try_from(self.ids.len() + 1)
                    .map_err(|_| Error::shape("ids", format!("at most {}", u32::MAX - 1), "more"))?;
                if self.ids.len() * 3 >= self.slots.len() * 2 {
                    self.grow();
                    slot = self.probe(hash, id.as_bytes()).err().unwrap_or(slot);
                }
                self.slots[slot] = ((hash >> 32) as u32, position);
                self.ids.append(id);
                Ok(position - 1)
            }
        }
    }

    /// The position of an id, if it is there.
    pub fn find(&self, id: &[u8]) -> Option<u32> {
        self.probe(self.hash(id), id).ok()
    }

    /// The position of each of `wanted` in this, or -1.
    pub fn locate(&self, wanted: &Ids, control: &Control) -> Result<Vec<i64>> {
        let mut found = vec![-1; wanted.len()];
        found.par_chunks_mut(BLOCK).enumerate().try_for_each(|(block, found)| {
            for (offset, found) in found.iter_mut().enumerate() {
                if let Some(position) = self.find(wanted.get(block * BLOCK + offset).as_bytes()) {
                    *found = i64::from(position);
                }
            }
            control.advance(found.len() as u64)
        })?;
        Ok(found)
    }

    fn hash(&self, id: &[u8]) -> u64 {
        XxHash3_64::oneshot_with_seed(self.seed, id)
    }

    /// The position of an id, or the free slot where it would go.
    fn probe(&self, hash: u64, id: &[u8]) -> Result<u32, usize> {
        let (mask, tag) = (self.slots.len() - 1, (hash >> 32) as u32);
        let mut slot = hash as usize & mask;
        loop {
            let (other, position) = self.slots[slot];
            if position == 0 {
                return Err(slot);
            }
            if other == tag && self.ids.get(position as usize - 1).as_bytes() == id {
                return Ok(position - 1);
            }
            slot = (slot + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 4 - 1;
        let mut slots = vec![(0, 0); mask + 1];
        for (position, id) in self.ids.iter().enumerate() {
            let hash = XxHash3_64::oneshot_with_seed(self.seed, id.as_bytes());
            let mut slot = hash as usize & mask;
            while slots[slot].1 != 0 {
                slot = (slot + 1) & mask;
            }
            slots[slot] = ((hash >> 32) as u32, position as u32 + 1);
        }
        self.slots = slots;
    }
}

/// Which of a set of ids a long list of lines holds; the list is streamed, in memory for the set alone.
///
/// Lines are trimmed, and the ".tar" at the end of the part before the first "/" does not count, in the list
/// as in the set: both spellings of a distractor's id are in use.
#[derive(Debug, Default)]
pub struct Search {
    wanted: Interner,
    seen: Vec<bool>,
    rest: Vec<u8>,
    spelled: Vec<u8>,
}

impl Search {
    /// Looks for `wanted`.
    pub fn new(wanted: &Ids) -> Result<Self> {
        let mut search = Self::default();
        for id in wanted.iter() {
            let (tar, key) = without_tar(id.as_bytes());
            search.spelled.clear();
            search.spelled.extend_from_slice(tar);
            search.spelled.extend_from_slice(key);
            // A cut at an ASCII character leaves UTF-8.
            let spelled = std::str::from_utf8(&search.spelled).unwrap_or(id);
            search.wanted.intern(spelled)?;
        }
        search.seen = vec![false; search.wanted.ids.len()];
        Ok(search)
    }

    /// Reads the next piece of the list; pieces may end anywhere.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut lines = piece.split(|&byte| byte == b'\n');
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            if self.rest.is_empty() {
                self.line(line);
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(line);
                self.line(&whole);
            }
        }
        self.rest.extend_from_slice(last);
    }

    /// Whether each of `asked`, a part of the set, was in the list.
    pub fn found(&mut self, asked: &Ids) -> Vec<bool> {
        let last = std::mem::take(&mut self.rest);
        self.line(&last);
        asked
            .iter()
            .map(|id| {
                let (tar, key) = without_tar(id.as_bytes());
                self.position(tar, key).is_some_and(|position| self.seen[position as usize])
            })
            .collect()
    }

    fn line(&mut self, line: &[u8]) {
        let (tar, key) = without_tar(line.trim_ascii());
        if let Some(position) = self.position(tar, key) {
            self.seen[position as usize] = true;
        }
    }

    fn position(&mut self, tar: &[u8], key: &[u8]) -> Option<u32> {
        self.spelled.clear();
        self.spelled.extend_from_slice(tar);
        self.spelled.extend_from_slice(key);
        self.wanted.find(&self.spelled)
    }
}

/// The part of an id before its first "/" without ".tar", and the rest from the "/" on.
fn without_tar(id: &[u8]) -> (&[u8], &[u8]) {
    let cut = id.iter().position(|&byte| byte == b'/').unwrap_or(id.len());
    let (tar, key) = id.split_at(cut);
    (tar.strip_suffix(b".tar").unwrap_or(tar), key)
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
    fn parts_are_checked() {
        assert_eq!(Ids::new("abü".into(), vec![1, 4]).unwrap(), ids(&["a", "bü"]));
        for (text, ends) in [
            ("ab", vec![1]),
            ("ab", vec![2, 1]),
            ("ab", vec![3]),
            ("ü", vec![1, 2]),
            ("ab", vec![2, u64::MAX]),
        ] {
            assert!(Ids::new(text.into(), ends).is_err());
        }
        for bad in ["", "a\0b"] {
            assert!(Ids::default().push(bad).unwrap_err().to_string().starts_with("id 0: expected"));
        }
        assert!(Ids::new("a".into(), vec![1, 1]).is_err());
    }

    #[test]
    fn both_spellings_of_a_tar_are_found_across_pieces() {
        let wanted = ids(&["t.tar/1", "t/2", "u.tar", "none", "t/3"]);
        for size in 1..12 {
            let mut search = Search::new(&wanted).unwrap();
            for piece in b"t/1\r\n t.tar/2 \nu\nt.tar.tar/3".chunks(size) {
                search.feed(piece);
            }
            assert_eq!(search.found(&wanted), [true, true, true, false, false]);
        }
    }

    proptest! {
        #[test]
        fn interning_equals_a_search_of_the_list(names in proptest::collection::vec("[a-c]{1,3}", 0..3000)) {
            let mut interner = Interner::default();
            let mut list: Vec<String> = Vec::new();
            for name in &names {
                let expected = list.iter().position(|other| other == name).unwrap_or_else(|| {
                    list.push(name.clone());
                    list.len() - 1
                });
                prop_assert_eq!(interner.intern(name).unwrap() as usize, expected);
            }
            let all = ids(&["a", "zz", "bb"]);
            let located = interner.locate(&all, &Control::new()).unwrap();
            for (name, found) in all.iter().zip(located) {
                prop_assert_eq!(found, list.iter().position(|other| other == name).map_or(-1, |at| at as i64));
            }
            prop_assert!(interner.into_ids().iter().eq(list.iter().map(String::as_str)));
        }
    }
}
