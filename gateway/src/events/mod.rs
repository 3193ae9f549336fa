//! Events of buckets, told to webhooks: at least once, and those of a key in their order.
//!
//! The partition that carries a mutation out puts its events into an outbox per webhook, in the same step. Gateways deliver
//! from there ([`delivery`]): whoever holds an outbox posts its events ([`round`], [`webhook`], [`message`]) and takes out what
//! was taken. What was not is set aside there ([`verdict`]), so that it holds back no other key. Nothing is kept here but how
//! long a webhook that fails is left alone.
//!
//! See "Amazon S3 Event Notifications" in the S3 user guide.

mod arn;
mod cause;
mod delivery;
mod message;
mod round;
mod tls;
mod verdict;
mod webhook;

pub(crate) use arn::webhook_of;
pub(crate) use cause::cause_of;
pub use delivery::EventDelivery;
pub(crate) use message::test_message;
pub use tls::{WebhookTls, WebhookTlsError};
pub(crate) use webhook::Webhooks;
