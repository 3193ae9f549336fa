//! The object layer on behalf of a request, for buckets that have somebody told what happens in them.

use annulus_common::map::Bucket;
use annulus_common::notification::Means;
use http::Extensions;

use super::Gateway;
use crate::auth::Operation;
use crate::events::cause_of;
use crate::object::Objects;
use crate::request::FORM;

impl Gateway {
    /// What the request does through it is told as the request's doing.
    pub(super) fn telling(&self, request: &Extensions, bucket: &Bucket, means: Means) -> Objects {
        match bucket.config.notification {
            Some(_) => self.objects.because_of(cause_of(request, means)),
            None => (*self.objects).clone(),
        }
    }
}

/// A browser's form comes as a put.
pub(super) fn of_put(request: &Extensions) -> Means {
    let is_form = request.get::<Operation>().is_some_and(|operation| operation.name() == FORM);
    if is_form { Means::Post } else { Means::Put }
}
