//! What is wrong with a policy, in the words of Amazon S3, which answers all of it with `MalformedPolicy`.

/// Why a document is not a policy. It is refused whole.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not an object of JSON.
    #[error("Policies must be valid JSON and the first byte must be '{{'")]
    NotJson,
    /// JSON with a mistake, or in which a key is given twice.
    #[error("This policy contains invalid Json")]
    InvalidJson,
    /// Larger than [`super::POLICY_BYTES_MAX`] without its white space.
    #[error("Normalized policy document exceeds the maximum allowed size of {} bytes", super::POLICY_BYTES_MAX)]
    TooLarge,
    /// An element of another form than the language gives it.
    #[error("Invalid policy syntax.")]
    Syntax,
    /// An element that the language does not have.
    #[error("Unknown field {0}")]
    Unknown(String),
    /// An element that every policy has is not there.
    #[error("Missing required field {0}")]
    Missing(&'static str),
    /// No version of the language.
    #[error("The policy must contain a valid version string")]
    Version,
    /// A policy says something.
    #[error("Could not parse the policy: Statement is empty!")]
    Empty,
    /// Neither `Allow` nor `Deny`.
    #[error("Invalid effect: {0}")]
    Effect(String),
    /// A principal that can be nobody.
    #[error("Invalid principal in policy")]
    Principal(String),
    /// Two statements have the same name.
    #[error("Statement IDs (SID) in a single policy must be unique.")]
    Sid,
    /// S3 leaves no way to allow something to everybody but a few.
    #[error("Allow with NotPrincipal is not allowed.")]
    AllowNotPrincipal,
    /// No such action.
    #[error("Policy has invalid action")]
    Action(String),
    /// Not this bucket or something in it.
    #[error("Policy has invalid resource")]
    Resource(String),
    /// No such operator.
    #[error("Invalid Condition type : {0}")]
    Operator(String),
    /// No such key.
    #[error("Policy has an invalid condition key")]
    Key(String),
    /// A key that the statement's actions never have.
    #[error("Conditions do not apply to combination of actions and resources in statement")]
    KeyOfOtherActions,
    /// A value that its operator cannot compare with.
    #[error("Invalid value in Conditions for operator {0}")]
    Value(String),
}

impl PolicyError {
    /// What of the policy it is about, as S3 shows it beside the message.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Principal(what) | Self::Action(what) | Self::Resource(what) | Self::Key(what) => Some(what),
            _ => None,
        }
    }
}
