//! GetObjectLockConfiguration and PutObjectLockConfiguration.

use annulus_common::map::BucketChange;
use annulus_common::object::{DefaultRetention, ObjectLock, RetentionMode, RetentionPeriod};
use s3s::dto::{
    self, GetObjectLockConfigurationInput, GetObjectLockConfigurationOutput, ObjectLockConfiguration,
    ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule, PutObjectLockConfigurationInput,
    PutObjectLockConfigurationOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::error::{s3_error, with_status};
use super::{Gateway, lock};

/// The longest default retention, as S3 says.
const DAYS_MAX: u32 = 36_500;
const YEARS_MAX: u32 = 100;

pub(super) async fn get_object_lock_configuration(
    gateway: &Gateway,
    req: S3Request<GetObjectLockConfigurationInput>,
) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let lock = bucket.config.object_lock.ok_or_else(none)?;
    let configuration = ObjectLockConfiguration {
        object_lock_enabled: Some(ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED)),
        rule: lock.default.map(|default| ObjectLockRule { default_retention: Some(dto_default(default)) }),
    };
    let object_lock_configuration = Some(configuration);
    Ok(S3Response::new(GetObjectLockConfigurationOutput { object_lock_configuration }))
}

pub(super) async fn put_object_lock_configuration(
    gateway: &Gateway,
    req: S3Request<PutObjectLockConfigurationInput>,
) -> S3Result<S3Response<PutObjectLockConfigurationOutput>> {
    lock::check_document_digest(&req.headers)?;
    let input = req.input;
    let lock = asked(input.object_lock_configuration.as_ref())?;
    gateway.configure(&input.bucket, BucketChange::ObjectLock(lock)).await?;
    Ok(S3Response::new(PutObjectLockConfigurationOutput::default()))
}

fn none() -> S3Error {
    with_status(
        S3ErrorCode::Custom("ObjectLockConfigurationNotFoundError".into()),
        http::StatusCode::NOT_FOUND,
        "Object Lock configuration does not exist for this bucket",
    )
}

fn asked(configuration: Option<&ObjectLockConfiguration>) -> S3Result<ObjectLock> {
    let configuration = configuration.ok_or_else(|| s3_error!(MalformedXML))?;
    match configuration.object_lock_enabled.as_ref().map(ObjectLockEnabled::as_str) {
        Some(ObjectLockEnabled::ENABLED) => {}
        _ => return Err(s3_error!(MalformedXML)),
    }
    let Some(rule) = &configuration.rule else { return Ok(ObjectLock::default()) };
    let default = rule.default_retention.as_ref().ok_or_else(|| s3_error!(MalformedXML))?;
    Ok(ObjectLock { default: Some(default_retention(default)?) })
}

fn default_retention(default: &dto::DefaultRetention) -> S3Result<DefaultRetention> {
    let mode = default.mode.as_ref().and_then(|mode| RetentionMode::named(mode.as_str()));
    let mode = mode.ok_or_else(|| s3_error!(MalformedXML))?;
    let period = match (default.days, default.years) {
        (Some(days), None) => RetentionPeriod::Days(period(days, DAYS_MAX)?),
        (None, Some(years)) => RetentionPeriod::Years(period(years, YEARS_MAX)?),
        _ => return Err(s3_error!(MalformedXML)),
    };
    Ok(DefaultRetention { mode, period })
}

fn period(number: i32, max: u32) -> S3Result<u32> {
    let invalid = |message| {
        let code = S3ErrorCode::Custom("InvalidRetentionPeriod".into());
        with_status(code, http::StatusCode::BAD_REQUEST, message)
    };
    match u32::try_from(number) {
        Ok(number) if number > max => Err(invalid("Default retention period is too large")),
        Ok(number) if number > 0 => Ok(number),
        _ => Err(invalid("Default retention period must be a positive integer value.")),
    }
}

fn dto_default(default: DefaultRetention) -> dto::DefaultRetention {
    let (days, years) = match default.period {
        RetentionPeriod::Days(days) => (i32::try_from(days).ok(), None),
        RetentionPeriod::Years(years) => (None, i32::try_from(years).ok()),
    };
    let mode = Some(ObjectLockRetentionMode::from_static(default.mode.name()));
    dto::DefaultRetention { days, mode, years }
}

#[cfg(test)]
mod tests {
    use annulus_common::object::{DefaultRetention, RetentionMode, RetentionPeriod};
    use s3s::dto::{self, ObjectLockRetentionMode};

    use super::default_retention;

    fn asks(mode: &'static str, days: Option<i32>, years: Option<i32>) -> Result<DefaultRetention, String> {
        let default = dto::DefaultRetention { days, mode: Some(ObjectLockRetentionMode::from_static(mode)), years };
        default_retention(&default).map_err(|error| error.code().as_str().to_owned())
    }

    #[test]
    fn a_default_has_a_mode_and_one_period() {
        let days = DefaultRetention { mode: RetentionMode::Governance, period: RetentionPeriod::Days(1) };
        assert_eq!(asks("GOVERNANCE", Some(1), None), Ok(days));
        let years = DefaultRetention { mode: RetentionMode::Compliance, period: RetentionPeriod::Years(100) };
        assert_eq!(asks("COMPLIANCE", None, Some(100)), Ok(years));
        for (mode, days, years, code) in [
            ("governance", Some(1), None, "MalformedXML"),
            ("GOVERNANCE", Some(1), Some(1), "MalformedXML"),
            ("GOVERNANCE", None, None, "MalformedXML"),
            ("GOVERNANCE", Some(0), None, "InvalidRetentionPeriod"),
            ("GOVERNANCE", None, Some(-1), "InvalidRetentionPeriod"),
            ("GOVERNANCE", None, Some(101), "InvalidRetentionPeriod"),
        ] {
            assert_eq!(asks(mode, days, years), Err(code.to_owned()), "{mode} {days:?} {years:?}");
        }
    }
}
