//! GetBucketCors.

use annulus_common::cors::CorsRule;
use s3s::dto::{self, GetBucketCorsInput, GetBucketCorsOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::Gateway;
use super::bucket_facts::none;
use super::error::s3_error;

pub(super) async fn get_bucket_cors(
    gateway: &Gateway,
    req: S3Request<GetBucketCorsInput>,
) -> S3Result<S3Response<GetBucketCorsOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let Some(cors) = &bucket.config.cors else {
        return Err(none("NoSuchCORSConfiguration", "The CORS configuration does not exist"));
    };
    let rules = cors.rules.iter().map(dto_rule).collect();
    Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(rules) }))
}

fn dto_rule(rule: &CorsRule) -> dto::CORSRule {
    let some = |texts: &[String]| (!texts.is_empty()).then(|| texts.to_vec());
    dto::CORSRule {
        id: rule.id.clone(),
        allowed_headers: some(&rule.allowed_headers),
        allowed_methods: rule.allowed_methods.iter().map(|method| method.name().to_owned()).collect(),
        allowed_origins: rule.allowed_origins.clone(),
        expose_headers: some(&rule.expose_headers),
        max_age_seconds: rule.max_age_seconds.map(|seconds| i32::try_from(seconds).unwrap_or(i32::MAX)),
    }
}
