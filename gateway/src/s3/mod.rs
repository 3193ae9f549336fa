//! The S3 API on the wire: one file per operation, which is the compatibility list. Each checks and translates what the
//! client says, asks the object layer, and translates back. Only this module, `auth` and `http` know s3s and headers.
//!
//! What is not built is not here: s3s answers it with 501 NotImplemented.

mod abort_multipart_upload;
mod append_object;
mod attributes;
pub(crate) mod body;
mod bucket_accelerate;
mod bucket_encryption;
mod bucket_facts;
mod bucket_lifecycle;
mod bucket_logging;
mod bucket_notification;
mod bucket_policy;
mod bucket_request_payment;
mod bucket_tagging;
mod bucket_versioning;
mod checksum;
mod complete_multipart_upload;
pub(crate) mod condition;
mod copy_object;
mod create_bucket;
mod create_multipart_upload;
mod delete_bucket;
mod delete_bucket_cors;
mod delete_bucket_ownership_controls;
mod delete_bucket_website;
mod delete_object;
mod delete_objects;
mod encryption;
mod error;
mod expiry;
mod find_object;
mod get_bucket_acl;
mod get_bucket_cors;
mod get_bucket_location;
mod get_bucket_ownership_controls;
mod get_bucket_website;
mod get_object;
mod get_object_acl;
mod get_object_attributes;
mod get_object_torrent;
mod grants;
mod head_bucket;
mod head_object;
mod headers;
mod list_buckets;
mod list_multipart_uploads;
mod list_object_versions;
mod list_objects;
mod list_objects_v2;
mod list_parts;
mod listing;
mod lock;
mod names;
mod object_legal_hold;
mod object_lock_configuration;
mod object_retention;
mod object_tagging;
mod public_access_block;
mod put_bucket_acl;
mod put_bucket_cors;
mod put_bucket_ownership_controls;
mod put_bucket_website;
mod put_object;
mod put_object_acl;
pub(crate) mod range;
mod read;
mod rename_object;
mod tags;
mod telling;
mod upload_part;
mod upload_part_copy;
mod version;

use std::sync::Arc;

use annulus_common::map::{BucketChange, ClusterMap};
use annulus_common::object::UserId;
use http::Extensions;
use s3s::{S3, S3Request, S3Response, S3Result, dto, s3_error};

use crate::auth::{Access, Accounts};
use crate::events::Webhooks;
use crate::object::Objects;

pub(crate) use checksum::check_named;
pub(crate) use names::BucketNames;
pub(crate) use range::{ByteRange, select as select_range};

/// What every operation works with.
#[derive(Clone)]
pub(crate) struct Gateway {
    objects: Arc<Objects>,
    accounts: Accounts,
    webhooks: Arc<Webhooks>,
    region: String,
    /// Whether clients may send their keys over connections that are not encrypted here.
    sse_c_without_tls: bool,
}

impl Gateway {
    pub(crate) fn new(
        objects: Arc<Objects>,
        accounts: Accounts,
        webhooks: Arc<Webhooks>,
        region: String,
        sse_c_without_tls: bool,
    ) -> Self {
        Self { objects, accounts, webhooks, region, sse_c_without_tls }
    }

    /// Changes a bucket's configuration, whatever it is now.
    async fn configure(&self, bucket: &str, change: BucketChange) -> S3Result {
        let found = self.objects.bucket(bucket).await.map_err(error::s3_error)?;
        self.objects.configure_bucket(bucket, &found, change).await.map_err(error::s3_error)
    }
}

/// Who asks and what is known of the request: put there by the access check, without which no operation runs.
fn access(extensions: &Extensions) -> S3Result<&Access> {
    extensions.get::<Access>().ok_or_else(|| s3_error!(AccessDenied))
}

/// Who signed the request, or [`UserId::ANONYMOUS`].
fn caller(extensions: &Extensions) -> S3Result<UserId> {
    access(extensions).map(Access::user)
}

/// An account as S3 shows it.
fn owner(map: &ClusterMap, user: UserId) -> dto::Owner {
    let display_name = map.users.get(&user).map(|user| user.display_name.clone());
    dto::Owner { display_name, id: Some(user.to_string()) }
}

/// An account as the one who began an upload.
fn initiator(map: &ClusterMap, user: UserId) -> dto::Initiator {
    let dto::Owner { display_name, id } = owner(map, user);
    dto::Initiator { display_name, id }
}

/// An entity tag as s3s writes it.
fn dto_etag(etag: &annulus_common::object::ETag) -> dto::ETag {
    dto::ETag::Strong(etag.to_string())
}

/// An answer with headers beside those of its output.
fn with_headers<T>(output: T, headers: http::HeaderMap) -> S3Response<T> {
    let mut response = S3Response::new(output);
    response.headers = headers;
    response
}

/// A size or length as s3s writes it.
fn dto_size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Hands each operation to its file.
macro_rules! delegate {
    ($($module:ident::$operation:ident($input:ident) -> $output:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Gateway {
            $(
                async fn $operation(&self, req: S3Request<dto::$input>) -> S3Result<S3Response<dto::$output>> {
                    $module::$operation(self, req).await
                }
            )*
        }
    };
}

delegate! {
    create_bucket::create_bucket(CreateBucketInput) -> CreateBucketOutput;
    head_bucket::head_bucket(HeadBucketInput) -> HeadBucketOutput;
    list_buckets::list_buckets(ListBucketsInput) -> ListBucketsOutput;
    delete_bucket::delete_bucket(DeleteBucketInput) -> DeleteBucketOutput;
    get_bucket_location::get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput;

    bucket_versioning::get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput;
    bucket_versioning::put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput;

    object_lock_configuration::get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput;
    object_lock_configuration::put_object_lock_configuration(PutObjectLockConfigurationInput) -> PutObjectLockConfigurationOutput;
    object_retention::get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput;
    object_retention::put_object_retention(PutObjectRetentionInput) -> PutObjectRetentionOutput;
    object_legal_hold::get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput;
    object_legal_hold::put_object_legal_hold(PutObjectLegalHoldInput) -> PutObjectLegalHoldOutput;

    put_object::put_object(PutObjectInput) -> PutObjectOutput;
    get_object::get_object(GetObjectInput) -> GetObjectOutput;
    head_object::head_object(HeadObjectInput) -> HeadObjectOutput;
    delete_object::delete_object(DeleteObjectInput) -> DeleteObjectOutput;
    delete_objects::delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput;
    copy_object::copy_object(CopyObjectInput) -> CopyObjectOutput;
    rename_object::rename_object(RenameObjectInput) -> RenameObjectOutput;
    get_object_attributes::get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput;

    list_objects::list_objects(ListObjectsInput) -> ListObjectsOutput;
    list_objects_v2::list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output;
    list_object_versions::list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput;

    create_multipart_upload::create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput;
    upload_part::upload_part(UploadPartInput) -> UploadPartOutput;
    upload_part_copy::upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput;
    complete_multipart_upload::complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput;
    abort_multipart_upload::abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput;
    list_parts::list_parts(ListPartsInput) -> ListPartsOutput;
    list_multipart_uploads::list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput;

    bucket_lifecycle::get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput;
    bucket_lifecycle::put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput) -> PutBucketLifecycleConfigurationOutput;
    bucket_lifecycle::delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput;

    bucket_encryption::get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput;
    bucket_encryption::put_bucket_encryption(PutBucketEncryptionInput) -> PutBucketEncryptionOutput;
    bucket_encryption::delete_bucket_encryption(DeleteBucketEncryptionInput) -> DeleteBucketEncryptionOutput;

    bucket_accelerate::get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput) -> GetBucketAccelerateConfigurationOutput;
    bucket_accelerate::put_bucket_accelerate_configuration(PutBucketAccelerateConfigurationInput) -> PutBucketAccelerateConfigurationOutput;
    get_bucket_cors::get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput;
    bucket_logging::get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput;
    bucket_logging::put_bucket_logging(PutBucketLoggingInput) -> PutBucketLoggingOutput;
    bucket_notification::get_bucket_notification_configuration(GetBucketNotificationConfigurationInput) -> GetBucketNotificationConfigurationOutput;
    bucket_notification::put_bucket_notification_configuration(PutBucketNotificationConfigurationInput) -> PutBucketNotificationConfigurationOutput;
    get_bucket_ownership_controls::get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput;
    bucket_facts::get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput;
    bucket_facts::get_bucket_analytics_configuration(GetBucketAnalyticsConfigurationInput) -> GetBucketAnalyticsConfigurationOutput;
    bucket_facts::get_bucket_intelligent_tiering_configuration(GetBucketIntelligentTieringConfigurationInput) -> GetBucketIntelligentTieringConfigurationOutput;
    bucket_facts::get_bucket_inventory_configuration(GetBucketInventoryConfigurationInput) -> GetBucketInventoryConfigurationOutput;
    bucket_facts::get_bucket_metrics_configuration(GetBucketMetricsConfigurationInput) -> GetBucketMetricsConfigurationOutput;
    bucket_facts::list_bucket_analytics_configurations(ListBucketAnalyticsConfigurationsInput) -> ListBucketAnalyticsConfigurationsOutput;
    bucket_facts::list_bucket_intelligent_tiering_configurations(ListBucketIntelligentTieringConfigurationsInput) -> ListBucketIntelligentTieringConfigurationsOutput;
    bucket_facts::list_bucket_inventory_configurations(ListBucketInventoryConfigurationsInput) -> ListBucketInventoryConfigurationsOutput;
    bucket_facts::list_bucket_metrics_configurations(ListBucketMetricsConfigurationsInput) -> ListBucketMetricsConfigurationsOutput;
    bucket_request_payment::get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput;
    bucket_request_payment::put_bucket_request_payment(PutBucketRequestPaymentInput) -> PutBucketRequestPaymentOutput;
    get_bucket_website::get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput;

    bucket_policy::get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput;
    bucket_policy::put_bucket_policy(PutBucketPolicyInput) -> PutBucketPolicyOutput;
    bucket_policy::delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput;
    bucket_policy::get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput;
    public_access_block::get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput;
    public_access_block::put_public_access_block(PutPublicAccessBlockInput) -> PutPublicAccessBlockOutput;
    public_access_block::delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput;

    bucket_tagging::get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput;
    bucket_tagging::put_bucket_tagging(PutBucketTaggingInput) -> PutBucketTaggingOutput;
    bucket_tagging::delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput;
    object_tagging::get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput;
    object_tagging::put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput;
    object_tagging::delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput;

    get_object_torrent::get_object_torrent(GetObjectTorrentInput) -> GetObjectTorrentOutput;

    get_bucket_acl::get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput;
    put_bucket_acl::put_bucket_acl(PutBucketAclInput) -> PutBucketAclOutput;
    put_bucket_cors::put_bucket_cors(PutBucketCorsInput) -> PutBucketCorsOutput;
    put_bucket_website::put_bucket_website(PutBucketWebsiteInput) -> PutBucketWebsiteOutput;
    delete_bucket_website::delete_bucket_website(DeleteBucketWebsiteInput) -> DeleteBucketWebsiteOutput;
    delete_bucket_cors::delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput;
    put_bucket_ownership_controls::put_bucket_ownership_controls(PutBucketOwnershipControlsInput) -> PutBucketOwnershipControlsOutput;
    delete_bucket_ownership_controls::delete_bucket_ownership_controls(DeleteBucketOwnershipControlsInput) -> DeleteBucketOwnershipControlsOutput;
    get_object_acl::get_object_acl(GetObjectAclInput) -> GetObjectAclOutput;
    put_object_acl::put_object_acl(PutObjectAclInput) -> PutObjectAclOutput;
}
