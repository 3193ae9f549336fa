//! GetBucketVersioning and PutBucketVersioning.

use annulus_common::map::BucketChange;
use annulus_common::object::Versioning;
use s3s::dto::{
    BucketVersioningStatus, GetBucketVersioningInput, GetBucketVersioningOutput, MFADelete, PutBucketVersioningInput,
    PutBucketVersioningOutput, VersioningConfiguration,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::Gateway;
use super::error::{s3_error, with_status};

pub(super) async fn get_bucket_versioning(
    gateway: &Gateway,
    req: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let status = match bucket.config.versioning {
        Versioning::Unversioned => None,
        Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
        Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
    };
    let status = status.map(BucketVersioningStatus::from_static);
    Ok(S3Response::new(GetBucketVersioningOutput { status, ..Default::default() }))
}

pub(super) async fn put_bucket_versioning(
    gateway: &Gateway,
    req: S3Request<PutBucketVersioningInput>,
) -> S3Result<S3Response<PutBucketVersioningOutput>> {
    let input = req.input;
    let versioning = asked(&input.versioning_configuration)?;
    gateway.configure(&input.bucket, BucketChange::Versioning(versioning)).await?;
    Ok(S3Response::new(PutBucketVersioningOutput::default()))
}

fn asked(configuration: &VersioningConfiguration) -> S3Result<Versioning> {
    match configuration.mfa_delete.as_ref().map(MFADelete::as_str) {
        None | Some(MFADelete::DISABLED) => {}
        Some(MFADelete::ENABLED) => return Err(s3_error!(NotImplemented, "MFA delete is not implemented")),
        Some(_) => return Err(s3_error!(MalformedXML)),
    }
    match configuration.status.as_ref().map(BucketVersioningStatus::as_str) {
        Some(BucketVersioningStatus::ENABLED) => Ok(Versioning::Enabled),
        Some(BucketVersioningStatus::SUSPENDED) => Ok(Versioning::Suspended),
        Some(_) => Err(s3_error!(MalformedXML)),
        None => Err(with_status(
            S3ErrorCode::IllegalVersioningConfigurationException,
            http::StatusCode::BAD_REQUEST,
            "The Versioning element must be specified",
        )),
    }
}

#[cfg(test)]
mod tests {
    use annulus_common::object::Versioning;
    use s3s::dto::{BucketVersioningStatus, MFADelete, VersioningConfiguration};

    use super::asked;

    fn asks(status: Option<&'static str>, mfa_delete: Option<&'static str>) -> Result<Versioning, String> {
        let configuration = VersioningConfiguration {
            status: status.map(BucketVersioningStatus::from_static),
            mfa_delete: mfa_delete.map(MFADelete::from_static),
        };
        asked(&configuration).map_err(|error| error.code().as_str().to_owned())
    }

    #[test]
    fn versioning_is_enabled_or_suspended() {
        assert_eq!(asks(Some("Enabled"), None), Ok(Versioning::Enabled));
        assert_eq!(asks(Some("Suspended"), Some("Disabled")), Ok(Versioning::Suspended));
        assert_eq!(asks(Some("enabled"), None), Err("MalformedXML".to_owned()));
        assert_eq!(asks(None, None), Err("IllegalVersioningConfigurationException".to_owned()));
        assert_eq!(asks(Some("Enabled"), Some("Enabled")), Err("NotImplemented".to_owned()));
    }
}
