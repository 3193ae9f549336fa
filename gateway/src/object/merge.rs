//! The merge of the sorted listings of a bucket's shards into one. Pure: it says which shards it needs more of.

use std::collections::VecDeque;

use annulus_common::ids::UploadId;
use annulus_common::object::{ListedObject, ListedVersion};
use annulus_common::protocol::metadata::{Entry, ListedUpload, Page, after_prefix};

/// Where a shard's listing begins or goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Cursor {
    /// The first key or common prefix that may come.
    pub(super) from: Vec<u8>,
    /// With `from` exactly a key: only what comes of it after this.
    pub(super) amid: Option<Amid>,
}

/// A place among what is listed of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Amid {
    /// Uploads: after this one.
    Upload(UploadId),
    /// Versions: after the one of this sequence, which are older.
    Version(u64),
}

/// What is listed: it knows its order, and where a listing goes on after it.
pub(super) trait Listed {
    fn key(&self) -> &str;
    fn amid(&self) -> Option<Amid>;

    fn after(&self) -> Cursor {
        match self.amid() {
            Some(amid) => Cursor { from: self.key().as_bytes().to_vec(), amid: Some(amid) },
            None => Cursor::after_key(self.key()),
        }
    }
}

impl Listed for ListedObject {
    fn key(&self) -> &str {
        &self.key
    }

    fn amid(&self) -> Option<Amid> {
        None
    }
}

impl Listed for ListedUpload {
    fn key(&self) -> &str {
        &self.key
    }

    fn amid(&self) -> Option<Amid> {
        Some(Amid::Upload(self.id))
    }
}

impl Listed for ListedVersion {
    fn key(&self) -> &str {
        self.item.key()
    }

    fn amid(&self) -> Option<Amid> {
        Some(Amid::Version(self.sequence))
    }
}

impl Cursor {
    pub(super) fn at(from: &str) -> Self {
        Self { from: from.as_bytes().to_vec(), amid: None }
    }

    pub(super) fn after_key(key: &str) -> Self {
        Self { from: [key.as_bytes(), &[0]].concat(), amid: None }
    }

    /// Where a listing begins that wants only what comes after `after`; nowhere when nothing can come.
    pub(super) fn start(prefix: &str, delimiter: Option<&str>, after: Option<(&str, Option<Amid>)>) -> Option<Self> {
        let Some((after, amid)) = after else { return Some(Self::at(prefix)) };
        if after < prefix {
            return Some(Self::at(prefix));
        }
        let rest = after.strip_prefix(prefix)?;
        let common = delimiter.and_then(|delimiter| rest.find(delimiter).map(|at| at + delimiter.len()));
        match (common, amid) {
            (Some(common), _) => Self::after_common_prefix(&after[..prefix.len() + common]),
            (None, Some(amid)) => Some(Self { from: after.as_bytes().to_vec(), amid: Some(amid) }),
            (None, None) => Some(Self::after_key(after)),
        }
    }

    fn after_common_prefix(prefix: &str) -> Option<Self> {
        after_prefix(prefix.as_bytes()).map(|from| Self { from, amid: None })
    }
}

/// What is known of one shard.
struct Shard<T> {
    entries: VecDeque<Entry<T>>,
    /// Where to ask for more; nowhere when the shard has told everything.
    more: Option<Cursor>,
}

/// A merge under way.
pub(super) struct Merge<T> {
    shards: Vec<Shard<T>>,
    merged: Vec<Entry<T>>,
    /// How many entries are wanted: one more than a page has tells whether there is another page.
    wanted: usize,
}

impl<T: Listed> Merge<T> {
    pub(super) fn new(shards: u16, start: &Cursor, wanted: usize) -> Self {
        let shard = || Shard { entries: VecDeque::new(), more: Some(start.clone()) };
        Self { shards: (0..shards).map(|_| shard()).collect(), merged: Vec::new(), wanted }
    }

    /// Merges as far as is known. What it needs to go on: shards and where their listings go on; nothing when it is done.
    pub(super) fn advance(&mut self) -> Vec<(u16, Cursor)> {
        while self.merged.len() < self.wanted {
            let starving = self.starving();
            if !starving.is_empty() {
                return starving;
            }
            let Some(entry) = self.take_smallest() else { break };
            self.merged.push(entry);
        }
        Vec::new()
    }

    /// How many entries are still wanted.
    pub(super) fn missing(&self) -> usize {
        self.wanted - self.merged.len()
    }

    /// Takes in a page of a shard.
    pub(super) fn feed(&mut self, shard: u16, page: Page<T>) {
        let shard = &mut self.shards[usize::from(shard)];
        shard.more = page.next.and_then(|next| match page.entries.last() {
            Some(Entry::Item(item)) => Some(item.after()),
            Some(Entry::Prefix(prefix)) => Cursor::after_common_prefix(prefix),
            None => Some(Cursor { from: next, amid: None }),
        });
        shard.entries.extend(page.entries);
    }

    /// What was wanted, or all there is.
    pub(super) fn finish(self) -> Vec<Entry<T>> {
        self.merged
    }

    fn starving(&self) -> Vec<(u16, Cursor)> {
        let shards = (0u16..).zip(&self.shards).filter(|(_, shard)| shard.entries.is_empty());
        shards.filter_map(|(number, shard)| Some((number, shard.more.clone()?))).collect()
    }

    /// The smallest of all first entries; a common prefix is taken from every shard that has it.
    fn take_smallest(&mut self) -> Option<Entry<T>> {
        let heads =
            self.shards.iter().enumerate().filter_map(|(place, shard)| Some((order(shard.entries.front()?), place)));
        let place = heads.min()?.1;
        let smallest = self.shards[place].entries.pop_front()?;
        if let Entry::Prefix(prefix) = &smallest {
            for shard in &mut self.shards {
                if matches!(shard.entries.front(), Some(Entry::Prefix(other)) if other == prefix) {
                    shard.entries.pop_front();
                }
            }
        }
        Some(smallest)
    }
}

/// By key alone: all that is listed of a key is one shard's, which gives it in order.
fn order<T: Listed>(entry: &Entry<T>) -> &str {
    match entry {
        Entry::Item(item) => item.key(),
        Entry::Prefix(prefix) => prefix,
    }
}
