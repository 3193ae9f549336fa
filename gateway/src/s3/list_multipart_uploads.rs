//! ListMultipartUploads.

use annulus_common::ids::UploadId;
use annulus_common::map::ClusterMap;
use annulus_common::protocol::metadata::{Entry, ListedUpload};
use s3s::dto::{CommonPrefix, ListMultipartUploadsInput, ListMultipartUploadsOutput, MultipartUpload, StorageClass};
use s3s::{S3Request, S3Response, S3Result};

use super::checksum::{dto_algorithm, dto_type};
use super::error::{invalid_argument, s3_error};
use super::headers::{STANDARD, timestamp};
use super::listing::{Names, non_empty, page_size};
use super::{Gateway, initiator, owner};
use crate::object::{ListUploads, UploadPage};

pub(super) async fn list_multipart_uploads(
    gateway: &Gateway,
    req: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let input = req.input;
    let max_uploads = page_size(input.max_uploads, "max-uploads")?;
    let prefix = input.prefix.unwrap_or_default();
    let delimiter = non_empty(input.delimiter.as_ref());
    let after_key = non_empty(input.key_marker.as_ref());
    // Without a key the upload's marker is ignored, as S3 says.
    let marker = non_empty(input.upload_id_marker.as_ref()).filter(|_| after_key.is_some());
    let after_upload = marker.map(upload_marker).transpose()?;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let list = ListUploads {
        bucket: &bucket,
        prefix: &prefix,
        delimiter,
        after_key,
        after_upload,
        max_uploads: max_uploads.unsigned_abs(),
    };
    let page = gateway.objects.list_uploads(list).await.map_err(s3_error)?;
    let key_marker = input.key_marker.as_deref().unwrap_or_default();
    let arguments = [prefix.as_str(), delimiter.unwrap_or_default(), key_marker];
    let names = Names::choose(input.encoding_type.as_ref(), arguments.into_iter().chain(page_names(&page)))?;
    let map = gateway.accounts.map().await?;
    let (uploads, common_prefixes) = split(&page, names, &map);
    let (next_key, next_upload) = page.next.clone().map_or((None, None), |(key, upload)| (Some(key), upload));
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        common_prefixes: Some(common_prefixes),
        delimiter: delimiter.map(|delimiter| names.write(delimiter)),
        encoding_type: names.encoding_type(),
        is_truncated: Some(page.next.is_some()),
        key_marker: Some(names.write(key_marker)),
        max_uploads: Some(max_uploads),
        next_key_marker: next_key.map(|key| names.write(&key)),
        next_upload_id_marker: next_upload.map(|upload| upload.to_string()),
        prefix: Some(names.write(&prefix)),
        request_charged: None,
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        uploads: Some(uploads),
    }))
}

fn upload_marker(text: &str) -> S3Result<UploadId> {
    UploadId::parse(text).ok_or_else(|| invalid_argument("upload-id-marker", "Invalid uploadId marker"))
}

fn page_names(page: &UploadPage) -> impl Iterator<Item = &str> {
    page.entries.iter().map(|entry| match entry {
        Entry::Item(upload) => upload.key.as_str(),
        Entry::Prefix(prefix) => prefix.as_str(),
    })
}

fn split(page: &UploadPage, names: Names, map: &ClusterMap) -> (Vec<MultipartUpload>, Vec<CommonPrefix>) {
    let (mut uploads, mut prefixes) = (Vec::new(), Vec::new());
    for entry in &page.entries {
        match entry {
            Entry::Item(upload) => uploads.push(dto_upload(upload, names, map)),
            Entry::Prefix(prefix) => prefixes.push(CommonPrefix { prefix: Some(names.write(prefix)) }),
        }
    }
    (uploads, prefixes)
}

fn dto_upload(upload: &ListedUpload, names: Names, map: &ClusterMap) -> MultipartUpload {
    let class = upload.storage_class.clone().unwrap_or_else(|| STANDARD.to_owned());
    MultipartUpload {
        checksum_algorithm: upload.checksum.map(|(algorithm, _)| dto_algorithm(algorithm)),
        checksum_type: upload.checksum.map(|(_, kind)| dto_type(kind)),
        initiated: Some(timestamp(upload.initiated_ms)),
        initiator: Some(initiator(map, upload.initiator)),
        key: Some(names.write(&upload.key)),
        owner: Some(owner(map, upload.owner)),
        storage_class: Some(StorageClass::from(class)),
        upload_id: Some(upload.id.to_string()),
    }
}
