//! What records call an operation: `REST.HTTP_method.resource_type`. See "Amazon S3 server access log format" in the S3 user
//! guide; the resource types are those that S3 writes.

use crate::query::has;

/// What tells operations apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) has_key: bool,
    pub(super) query: Option<&'a str>,
    /// Whether a browser asked for a page of a website.
    pub(super) is_website: bool,
}

/// Resource types by the query key that asks for them; those of a bucket and of an object where they differ.
const BY_QUERY: &[(&str, &str, &str)] = &[
    ("accelerate", "ACCELERATE", "ACCELERATE"),
    ("acl", "ACL", "ACL"),
    ("analytics", "ANALYTICS", "ANALYTICS"),
    ("attributes", "OBJECT_ATTRIBUTES", "OBJECT_ATTRIBUTES"),
    ("cors", "CORS", "CORS"),
    ("encryption", "ENCRYPTION", "ENCRYPTION"),
    ("intelligent-tiering", "INTELLIGENT_TIERING", "INTELLIGENT_TIERING"),
    ("inventory", "INVENTORY", "INVENTORY"),
    ("legal-hold", "OBJECT_LOCK_LEGALHOLD", "OBJECT_LOCK_LEGALHOLD"),
    ("lifecycle", "LIFECYCLE", "LIFECYCLE"),
    ("location", "LOCATION", "LOCATION"),
    ("logging", "LOGGING_STATUS", "LOGGING_STATUS"),
    ("metrics", "METRICS", "METRICS"),
    ("notification", "NOTIFICATION", "NOTIFICATION"),
    ("object-lock", "OBJECT_LOCK_CONFIGURATION", "OBJECT_LOCK_CONFIGURATION"),
    ("ownershipControls", "OWNERSHIP_CONTROLS", "OWNERSHIP_CONTROLS"),
    ("policy", "BUCKETPOLICY", "BUCKETPOLICY"),
    ("policyStatus", "BUCKETPOLICYSTATUS", "BUCKETPOLICYSTATUS"),
    ("publicAccessBlock", "PUBLIC_ACCESS_BLOCK", "PUBLIC_ACCESS_BLOCK"),
    ("replication", "REPLICATION", "REPLICATION"),
    ("requestPayment", "REQUEST_PAYMENT", "REQUEST_PAYMENT"),
    ("restore", "OBJECT", "OBJECT"),
    ("retention", "OBJECT_LOCK_RETENTION", "OBJECT_LOCK_RETENTION"),
    ("select", "OBJECT", "OBJECT"),
    ("tagging", "TAGGING", "OBJECT_TAGGING"),
    ("torrent", "TORRENT", "TORRENT"),
    ("versioning", "VERSIONING", "VERSIONING"),
    ("versions", "BUCKETVERSIONS", "BUCKETVERSIONS"),
    ("website", "WEBSITE", "WEBSITE"),
];

/// One key of a deletion of many.
pub(super) const BATCH_DELETE: &str = "BATCH.DELETE.OBJECT";

/// The operation.
pub(super) fn operation(asked: &Asked<'_>) -> String {
    let Asked { method, is_website, .. } = *asked;
    match method {
        "OPTIONS" => "REST.OPTIONS.PREFLIGHT".to_owned(),
        _ if is_website => format!("WEBSITE.{method}.OBJECT"),
        _ => format!("REST.{method}.{}", resource_type(asked)),
    }
}

/// The reading half of a copy, which is recorded where the source is.
pub(super) fn copy_source(query: Option<&str>) -> &'static str {
    if has(query, "uploadId") { "REST.COPY.PART_GET" } else { "REST.COPY.OBJECT_GET" }
}

fn resource_type(asked: &Asked<'_>) -> &'static str {
    let Asked { method, has_key, query, .. } = *asked;
    if method == "POST" && !has_key && has(query, "delete") {
        return "MULTI_OBJECT_DELETE";
    }
    if has(query, "uploads") {
        return "UPLOADS";
    }
    if has(query, "uploadId") {
        return if method == "PUT" { "PART" } else { "UPLOAD" };
    }
    match BY_QUERY.iter().find(|(key, _, _)| has(query, key)) {
        Some((_, _, of_object)) if has_key => of_object,
        Some((_, of_bucket, _)) => of_bucket,
        // A form is sent to a bucket and makes an object.
        None if has_key || method == "POST" => "OBJECT",
        None => "BUCKET",
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, copy_source, operation};

    fn name(method: &str, has_key: bool, query: &str) -> String {
        operation(&Asked { method, has_key, query: Some(query).filter(|query| !query.is_empty()), is_website: false })
    }

    #[test]
    fn operations_have_the_names_that_s3_writes() {
        for (method, has_key, query, expected) in [
            ("GET", true, "", "REST.GET.OBJECT"),
            ("PUT", true, "x-id=PutObject", "REST.PUT.OBJECT"),
            ("HEAD", true, "versionId=1", "REST.HEAD.OBJECT"),
            ("DELETE", true, "", "REST.DELETE.OBJECT"),
            ("GET", false, "list-type=2&prefix=acl", "REST.GET.BUCKET"),
            ("GET", false, "versions&prefix=a", "REST.GET.BUCKETVERSIONS"),
            ("HEAD", false, "", "REST.HEAD.BUCKET"),
            ("POST", false, "delete", "REST.POST.MULTI_OBJECT_DELETE"),
            ("POST", false, "", "REST.POST.OBJECT"),
            ("POST", true, "uploads", "REST.POST.UPLOADS"),
            ("PUT", true, "partNumber=1&uploadId=x", "REST.PUT.PART"),
            ("POST", true, "uploadId=x", "REST.POST.UPLOAD"),
            ("DELETE", true, "uploadId=x", "REST.DELETE.UPLOAD"),
            ("GET", false, "logging", "REST.GET.LOGGING_STATUS"),
            ("GET", false, "policy=", "REST.GET.BUCKETPOLICY"),
            ("PUT", false, "tagging", "REST.PUT.TAGGING"),
            ("PUT", true, "tagging", "REST.PUT.OBJECT_TAGGING"),
            ("GET", true, "%61cl", "REST.GET.ACL"),
            ("OPTIONS", true, "", "REST.OPTIONS.PREFLIGHT"),
        ] {
            assert_eq!(name(method, has_key, query), expected);
        }
        let page = Asked { method: "GET", has_key: true, query: Some("acl"), is_website: true };
        assert_eq!(operation(&page), "WEBSITE.GET.OBJECT");
        assert_eq!(copy_source(None), "REST.COPY.OBJECT_GET");
        assert_eq!(copy_source(Some("partNumber=1&uploadId=x")), "REST.COPY.PART_GET");
    }
}
