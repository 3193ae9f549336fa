//! The fence that makes deleting a bucket safe against writes that are under way: a shard is found empty and closed in one step.

use annulus_common::ids::{BucketId, RequestId, ShardId};
use annulus_common::protocol::metadata::{MetaReply, after_prefix};

use super::super::schema::records::Shard;
use super::Step;
use crate::kv::{KvError, Table};

impl Step<'_> {
    /// Writing stops until the token is void. A later deletion takes the fence over. Uploads stay as they are: another shard may
    /// refuse the deletion, and once the bucket is gone, the leader finds them ([`crate::metadata::abandoned_uploads`]).
    pub(super) fn fence(&mut self, bucket: BucketId, shard: ShardId, token: RequestId) -> Result<MetaReply, KvError> {
        let (objects, versions) = (self.keys.objects(bucket, shard), self.keys.versions_from(bucket, shard, &[]));
        if self.first_key(&objects)?.is_some() || self.first_key(&versions)?.is_some() {
            return Ok(MetaReply::NotEmpty);
        }
        let fenced = Shard { fence: Some(token), ..self.shard(bucket, shard)? };
        self.put(self.keys.shard(bucket, shard), &fenced);
        Ok(MetaReply::Done)
    }

    pub(super) fn unfence(&mut self, bucket: BucketId, shard: ShardId, token: RequestId) -> Result<MetaReply, KvError> {
        let fenced = self.shard(bucket, shard)?;
        if fenced.fence == Some(token) {
            self.put(self.keys.shard(bucket, shard), &Shard { fence: None, ..fenced });
        }
        Ok(MetaReply::Done)
    }

    fn first_key(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let upper = after_prefix(prefix).unwrap_or_default();
        let mut cursor = self.kv.cursor(Table::Meta, prefix, &upper)?;
        cursor.seek(prefix)?;
        Ok(cursor.entry().map(|(key, _)| key.to_vec()))
    }
}
