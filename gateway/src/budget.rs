//! How many bytes all requests of this process may hold together. A request reserves what it needs to get through to its end before
//! it holds any of it, and waits its turn for that, but not for long: then the client is told to slow down.
//!
//! Nobody waits for ever, because
//! - a request waits for memory of a kind only while it holds none of that kind. One that holds a document may wait for the memory of
//!   an object's bytes, never the other way round;
//! - with its share it gets through, if slowly. What makes it faster it asks for as it goes along, and goes on without when there
//!   is none.
//!
//! Bytes that were handed out are counted until the last reference to them is gone ([`Share::attach`]): also while they lie in a
//! socket's queue. Not counted is what each connection may hold anyway: its buffers, and a request of up to [`FREE_BYTES_MAX`]. Nor
//! what is there for moments: second answers to hedged reads, and records on their way from the nodes.

use std::sync::Arc;
use std::time::Duration;

use annulus_common::telemetry::Metrics;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many bytes a request holds uncounted: as many may lie in its connection's buffers anyway. Small objects cost nothing here, and
/// are served however many large ones there are.
pub(crate) const FREE_BYTES_MAX: u64 = 64 << 10;

/// How long a request waits for its share. Clients wait a minute for an answer, and do better to come back later than to give up. Less
/// than after which a copy is answered 200, whatever becomes of it.
const WAIT: Duration = Duration::from_secs(5);

/// One part in so many is for documents: they are held for milliseconds.
const DOCUMENTS: u64 = 4;

/// One part in so many of the memory for documents may be of requests of which it is not known yet who sent them: else anybody could have
/// all of it.
const STRANGERS: u64 = 2;

/// One part in so many of the memory for objects' bytes may be what only makes requests faster: slow clients who sit on
/// it leave the rest to others.
const AHEAD: u64 = 2;

/// The memory of all requests.
pub struct MemoryBudget {
    /// For documents: pages of lists, and bodies that are read whole.
    documents: Pool,
    /// How much of that may be strangers'.
    strangers: Pool,
    /// For the bytes of objects, on their way in and out.
    bodies: Pool,
    /// How much of that may be ahead of need.
    ahead: Pool,
    wait: Duration,
    metrics: Arc<Metrics>,
}

struct Pool {
    free: Arc<Semaphore>,
    bytes: u64,
}

/// Bytes that somebody may hold, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    reserved: Option<OwnedSemaphorePermit>,
    /// Where only some of the pool may be used so: a place in that.
    bounded: Option<OwnedSemaphorePermit>,
}

/// What a request may hold of objects' bytes: a share of its own, and more where there is enough.
#[derive(Clone)]
pub(crate) struct Allowance {
    budget: Arc<MemoryBudget>,
    own: Arc<Share>,
}

/// Other requests hold all there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("other requests hold all the memory that there is for requests")]
pub(crate) struct Exhausted;

impl Pool {
    fn new(bytes: u64) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS as u64);
        Self { free: Arc::new(Semaphore::new(bytes as usize)), bytes }
    }

    /// What is larger than the whole pool takes all of it.
    fn permits(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.min(self.bytes)).unwrap_or(u32::MAX)
    }

    fn try_take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(self.permits(bytes)).ok()
    }

    /// In the order in which it was asked for.
    async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_many_owned(self.permits(bytes)).await.ok()
    }

    fn held(&self) -> u64 {
        self.bytes.saturating_sub(self.free.available_permits() as u64)
    }

    fn is_half_free(&self) -> bool {
        self.held() <= self.bytes / 2
    }
}

impl MemoryBudget {
    /// So many bytes for all requests, which are counted there.
    pub fn new(bytes: u64, metrics: Arc<Metrics>) -> Arc<Self> {
        Self::with_wait(bytes, WAIT, metrics)
    }

    /// The same with another patience than clients are thought to have.
    pub(crate) fn with_wait(bytes: u64, wait: Duration, metrics: Arc<Metrics>) -> Arc<Self> {
        let documents = bytes / DOCUMENTS;
        let bodies = bytes - documents;
        let [strangers, ahead] = [documents / STRANGERS, bodies / AHEAD].map(Pool::new);
        let [documents, bodies] = [documents, bodies].map(Pool::new);
        Arc::new(Self { documents, strangers, bodies, ahead, wait, metrics })
    }

    /// Memory for a document.
    pub(crate) async fn document(&self, bytes: u64) -> Result<Share, Exhausted> {
        Ok(Share { reserved: self.reserve(&self.documents, bytes).await?, bounded: None })
    }

    /// Memory for a document that is read before it is known who sent it.
    pub(crate) async fn document_of_stranger(&self, bytes: u64) -> Result<Share, Exhausted> {
        let bounded = self.reserve(&self.strangers, bytes).await?;
        Ok(Share { bounded, ..self.document(bytes).await? })
    }

    /// Memory for the bytes of an object: what the request cannot do without.
    pub(crate) async fn body(self: &Arc<Self>, bytes: u64) -> Result<Allowance, Exhausted> {
        let own = Share { reserved: self.reserve(&self.bodies, bytes).await?, bounded: None };
        Ok(Allowance { budget: Arc::clone(self), own: Arc::new(own) })
    }

    /// Brings the gauge up to date.
    pub(crate) fn note_held(&self) {
        self.metrics.memory.held_bytes.set(i64::try_from(self.held()).unwrap_or(i64::MAX));
    }

    /// What is reserved now.
    pub(crate) fn held(&self) -> u64 {
        self.documents.held() + self.bodies.held()
    }

    async fn reserve(&self, pool: &Pool, bytes: u64) -> Result<Option<OwnedSemaphorePermit>, Exhausted> {
        if bytes <= FREE_BYTES_MAX {
            return Ok(None);
        }
        if let Some(permit) = pool.try_take(bytes) {
            return Ok(Some(permit));
        }
        self.metrics.memory.waited.inc();
        match tokio::time::timeout(self.wait, pool.take(bytes)).await {
            Ok(Some(permit)) => Ok(Some(permit)),
            _ => {
                self.metrics.memory.refused.inc();
                Err(Exhausted)
            }
        }
    }

    fn take_ahead(&self, bytes: u64) -> Option<Arc<Share>> {
        let bounded = self.ahead.try_take(bytes)?;
        let reserved = self.bodies.try_take(bytes)?;
        Some(Arc::new(Share { reserved: Some(reserved), bounded: Some(bounded) }))
    }
}

impl Allowance {
    /// What was reserved: enough for one thing at a time.
    pub(crate) fn own(&self) -> Arc<Share> {
        Arc::clone(&self.own)
    }

    /// More, if it is there at once.
    pub(crate) fn ahead(&self, bytes: u64) -> Option<Arc<Share>> {
        self.budget.take_ahead(bytes)
    }

    /// More, if there is plenty: nobody is to have three where others have none.
    pub(crate) fn far_ahead(&self, bytes: u64) -> Option<Arc<Share>> {
        self.budget.ahead.is_half_free().then(|| self.budget.take_ahead(bytes)).flatten()
    }
}

impl Share {
    /// Of what is not counted.
    pub(crate) fn nothing() -> Self {
        Self { reserved: None, bounded: None }
    }

    /// Gives back what is not needed any more.
    pub(crate) fn shrink_to(&mut self, bytes: u64) {
        for permit in [&mut self.reserved, &mut self.bounded].into_iter().flatten() {
            let surplus = (permit.num_permits() as u64).saturating_sub(bytes);
            // What is split off is given back when it is dropped, here.
            drop(permit.split(surplus as usize));
        }
    }

    /// The bytes, for which the share is held until nobody refers to them.
    pub(crate) fn attach(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        match self.reserved {
            Some(_) => Bytes::from_owner(Attached { bytes, _share: Arc::clone(self) }),
            None => bytes,
        }
    }
}

struct Attached {
    bytes: Bytes,
    _share: Arc<Share>,
}

impl AsRef<[u8]> for Attached {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use annulus_common::telemetry::Metrics;
    use bytes::Bytes;
    use futures::FutureExt;

    use super::{Exhausted, FREE_BYTES_MAX, MemoryBudget};

    const MIB: u64 = 1 << 20;

    /// 4 MiB for documents and 12 for bodies, of which 6 may be ahead.
    fn budget(wait: Duration) -> Arc<MemoryBudget> {
        MemoryBudget::with_wait(16 * MIB, wait, Metrics::new())
    }

    fn patient() -> Arc<MemoryBudget> {
        budget(Duration::from_secs(60))
    }

    #[tokio::test]
    async fn all_together_hold_no_more_than_there_is() {
        let budget = budget(Duration::from_millis(20));
        let first = budget.body(7 * MIB).await.expect("it is free");
        let second = budget.body(5 * MIB).await.expect("it is free");
        assert_eq!(budget.body(FREE_BYTES_MAX + 1).await.err(), Some(Exhausted));
        assert_eq!(budget.held(), 12 * MIB);
        assert!(budget.document(4 * MIB).await.is_ok(), "documents have memory of their own");
        drop(first);
        assert!(budget.body(7 * MIB).await.is_ok());
        drop(second);
        assert_eq!(budget.held(), 0);
        assert_eq!((budget.metrics.memory.waited.get(), budget.metrics.memory.refused.get()), (1, 1));
    }

    #[tokio::test]
    async fn strangers_leave_half_of_the_documents_to_others() {
        let budget = budget(Duration::from_millis(20));
        let strangers = budget.document_of_stranger(2 * MIB).await.expect("it is free");
        assert_eq!(budget.document_of_stranger(MIB).await.err(), Some(Exhausted));
        let known = budget.document(2 * MIB).await.expect("it is free");
        assert_eq!(budget.held(), 4 * MIB);
        drop(strangers);
        assert!(budget.document_of_stranger(MIB).await.is_ok());
        drop(known);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn what_is_small_never_waits() {
        let budget = patient();
        let _all = budget.body(12 * MIB).await.expect("it is free");
        let small = budget.body(FREE_BYTES_MAX).now_or_never();
        assert!(small.expect("it does not wait").is_ok());
    }

    #[tokio::test]
    async fn who_waits_is_served_in_order() {
        let budget = patient();
        let most = budget.body(11 * MIB).await.expect("it is free");
        let mut large = Box::pin(budget.body(10 * MIB));
        assert!((&mut large).now_or_never().is_none(), "1 MiB is left");
        let mut small = Box::pin(budget.body(MIB));
        assert!((&mut small).now_or_never().is_none(), "it does not push in, though there would be enough");
        drop(most);
        let large = (&mut large).now_or_never().expect("its turn has come").expect("in time");
        small.now_or_never().expect("its turn has come, too").expect("in time");
        drop(large);
    }

    #[tokio::test]
    async fn more_than_the_whole_takes_the_whole() {
        let budget = budget(Duration::from_millis(20));
        let all = budget.body(100 * MIB).await.expect("it is free");
        assert_eq!(budget.held(), 12 * MIB);
        drop(all);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn ahead_leaves_half_to_those_who_come() {
        let budget = patient();
        let one = budget.body(MIB).await.expect("it is free");
        let first = one.far_ahead(4 * MIB).expect("none is taken");
        assert!(one.far_ahead(2 * MIB).is_none(), "more than half of it is taken");
        let second = one.ahead(2 * MIB).expect("there is some");
        assert!(one.ahead(1).is_none());
        let other = budget.body(5 * MIB).now_or_never().expect("it does not wait").expect("it is free");
        drop((first, second));
        assert_eq!(budget.held(), 6 * MIB);
        assert!(other.ahead(6 * MIB).is_some());
        let rest = budget.body(6 * MIB).await.expect("it is free");
        assert!(other.ahead(1).is_none(), "what others need comes first");
        drop(rest);
    }

    #[tokio::test]
    async fn bytes_are_counted_until_the_last_of_them_is_gone() {
        let budget = patient();
        let one = budget.body(MIB).await.expect("it is free");
        let mut bytes = one.ahead(2 * MIB).expect("there is some").attach(Bytes::from(vec![7; 100]));
        let last = bytes.split_off(99);
        drop(bytes);
        assert_eq!(budget.held(), 3 * MIB);
        assert_eq!(last, [7][..]);
        drop(last);
        assert_eq!(budget.held(), MIB);
        let sent = one.own().attach(Bytes::from_static(b"x"));
        drop(one);
        assert_eq!(budget.held(), MIB, "it lies in a queue yet");
        drop(sent);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn what_is_not_needed_is_given_back() {
        let budget = patient();
        let mut share = budget.document(4 * MIB).await.expect("it is free");
        share.shrink_to(MIB);
        share.shrink_to(2 * MIB);
        assert_eq!(budget.held(), MIB);
        share.shrink_to(0);
        assert_eq!(budget.held(), 0);
        let one = budget.body(MIB).await.expect("it is free");
        let mut ahead = one.ahead(6 * MIB).expect("there is some");
        Arc::get_mut(&mut ahead).expect("it is nobody else's").shrink_to(MIB);
        assert!(one.ahead(5 * MIB).is_some());
    }
}
