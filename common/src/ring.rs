//! Where a key and a chunk lie on the ring: stable hashes and nothing else. Who holds a partition is the cluster map's.
//!
//! These functions are part of the stored format: another answer would lose every object. Golden values pin them.

use std::ops::RangeInclusive;

use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{BucketId, ChunkId, PartitionId, ShardId, UserId};

/// The partition that holds a position of the ring: the ring is cut into equal arcs, in order.
pub fn partition_of(position: u64, partitions: u32) -> PartitionId {
    assert!(partitions > 0, "a ring has at least one partition");
    let scaled = u128::from(position) * u128::from(partitions);
    PartitionId((scaled >> u64::BITS) as u32)
}

/// The positions that a partition holds: what [`partition_of`] maps to it, and nothing else.
pub fn positions_of(partition: PartitionId, partitions: u32) -> RangeInclusive<u64> {
    assert!(partition.0 < partitions, "a ring has no partition beyond its last");
    let first = |partition: u64| (u128::from(partition) << u64::BITS).div_ceil(u128::from(partitions));
    let (start, next) = (first(u64::from(partition.0)), first(u64::from(partition.0) + 1));
    // The last partition ends where a u64 does, so what follows it is no u64.
    start as u64..=(next - 1) as u64
}

/// The index shard of a key in a bucket of `shards` shards.
pub fn shard_of(key: &[u8], shards: u16) -> ShardId {
    assert!(shards > 0, "a bucket has at least one index shard");
    ShardId((xxh3_64(key) % u64::from(shards)) as u16)
}

/// The partition whose group holds an index shard of a bucket.
pub fn partition_of_shard(bucket: BucketId, shard: ShardId, partitions: u32) -> PartitionId {
    let mut name = [0; 10];
    name[..8].copy_from_slice(&bucket.0.to_be_bytes());
    name[8..].copy_from_slice(&shard.0.to_be_bytes());
    partition_of(xxh3_64(&name), partitions)
}

/// The partition whose group keeps the books of an account's quota.
pub fn partition_of_account(user: UserId, partitions: u32) -> PartitionId {
    partition_of(xxh3_64(&user.0), partitions)
}

/// The partition whose nodes hold a chunk.
pub fn partition_of_chunk(chunk: ChunkId, partitions: u32) -> PartitionId {
    partition_of(position_of_chunk(chunk), partitions)
}

/// Where a chunk lies on the ring.
pub fn position_of_chunk(chunk: ChunkId) -> u64 {
    xxh3_64(&chunk.to_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::{prop_assert, proptest};

    use super::{partition_of, partition_of_account, partition_of_chunk, partition_of_shard, positions_of, shard_of};
    use crate::ids::{BucketId, ChunkId, PartId, PartitionId, ShardId, UserId};

    fn chunk(index: u32) -> ChunkId {
        ChunkId { part: PartId(*b"0123456789abcdef"), index }
    }

    /// Never change these numbers: they say where stored objects are.
    #[test]
    fn golden_values() {
        let shards = ["", "a", "photos/2024/01.jpg", "\u{e9}t\u{e9}"].map(|key| shard_of(key.as_bytes(), 16).0);
        assert_eq!(shards, [2, 15, 15, 5]);

        let of_shards = [(1, 0), (1, 15), (2, 0), (u64::MAX, u16::MAX)]
            .map(|(bucket, shard)| partition_of_shard(BucketId(bucket), ShardId(shard), 64).0);
        assert_eq!(of_shards, [14, 52, 4, 33]);

        let of_accounts = [0, 1, 0xff].map(|byte| partition_of_account(UserId([byte; 32]), 64).0);
        assert_eq!(of_accounts, [40, 61, 13]);

        let of_chunks = [0, 1, 2, u32::MAX].map(|index| partition_of_chunk(chunk(index), 64).0);
        assert_eq!(of_chunks, [34, 49, 22, 57]);
    }

    #[test]
    fn arcs_are_equal_and_in_order() {
        for partitions in [1, 3, 16, 64, 1000] {
            let arc = (1_u128 << 64) / u128::from(partitions);
            for partition in 0..partitions {
                let middle = (arc * u128::from(partition) + arc / 2) as u64;
                assert_eq!(partition_of(middle, partitions), PartitionId(partition));
            }
            assert_eq!(partition_of(0, partitions), PartitionId(0));
            assert_eq!(partition_of(u64::MAX, partitions), PartitionId(partitions - 1));
        }
    }

    #[test]
    fn the_positions_of_the_partitions_are_the_ring() {
        for partitions in [1, 2, 3, 7, 64, 1000, u32::MAX] {
            for partition in (0..partitions.min(1000)).chain([partitions - 1]) {
                let positions = positions_of(PartitionId(partition), partitions);
                let (first, last) = (*positions.start(), *positions.end());
                assert_eq!(partition_of(first, partitions), PartitionId(partition));
                assert_eq!(partition_of(last, partitions), PartitionId(partition));
                assert_eq!(
                    first.checked_sub(1).map(|before| partition_of(before, partitions).0),
                    partition.checked_sub(1)
                );
                let after = last.checked_add(1).map(|after| partition_of(after, partitions).0);
                assert_eq!(after, Some(partition + 1).filter(|&next| next < partitions));
            }
        }
    }

    #[test]
    fn chunks_and_keys_spread_evenly() {
        let (mut chunks, mut keys) = ([0_u32; 64], [0_u32; 16]);
        for index in 0..64_000 {
            chunks[partition_of_chunk(chunk(index), 64).0 as usize] += 1;
            keys[usize::from(shard_of(format!("log/{index:08}").as_bytes(), 16).0)] += 1;
        }
        // Five standard deviations of a fair choice: about 160 of 1,000, and about 310 of 4,000.
        assert!(chunks.iter().all(|count| count.abs_diff(1_000) < 160), "{chunks:?}");
        assert!(keys.iter().all(|count| count.abs_diff(4_000) < 310), "{keys:?}");
    }

    proptest! {
        #[test]
        fn answers_are_in_range(bucket: u64, shard: u16, key in any::<Vec<u8>>(), partitions in 1_u32.., shards in 1_u16..) {
            prop_assert!(partition_of_shard(BucketId(bucket), ShardId(shard), partitions).0 < partitions);
            prop_assert!(partition_of_chunk(chunk(u32::from(shard)), partitions).0 < partitions);
            prop_assert!(shard_of(&key, shards).0 < shards);
        }
    }
}
