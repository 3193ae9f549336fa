//! What AWS documents of each operation of S3: how it is asked for, and which headers and query keys it has. The list is
//! AWS's own model of the API (tests/conformance/documented.py); what is built of it is another matter.

/// An operation as AWS documents it.
pub(crate) struct Documented {
    pub(crate) operation: &'static str,
    pub(crate) method: &'static str,
    /// Its path and what names it in the query: `/{Bucket}/{Key+}?acl`.
    template: &'static str,
    /// In lower case.
    pub(crate) headers: Vec<&'static str>,
    pub(crate) keys: Vec<&'static str>,
}

/// All of them, by name.
pub(crate) fn documented() -> Vec<Documented> {
    include_str!("documented.txt").lines().filter(|line| !line.starts_with('#')).map(parse).collect()
}

fn parse(line: &'static str) -> Documented {
    let mut words = line.split(' ');
    let mut word = || words.next().expect("a line has a name, a method and a path");
    let (operation, method, template) = (word(), word(), word());
    let (mut headers, mut keys) = (Vec::new(), Vec::new());
    for parameter in words {
        match parameter.split_once(':').expect("a parameter says where it stands") {
            ("header", name) => headers.push(name),
            (_, name) => keys.push(name),
        }
    }
    Documented { operation, method, template, headers, keys }
}

impl Documented {
    /// The path for this bucket, `/NAME`, and this key.
    pub(crate) fn path(&self, bucket: &str, key: &str) -> String {
        self.path_template().replace("/{Bucket}", bucket).replace("{Key+}", key)
    }

    /// What of the query names the operation.
    pub(crate) fn query(&self) -> Option<&'static str> {
        self.template.split_once('?').map(|(_, query)| query)
    }

    /// Whether it is about the same thing: two operations of one sub-resource.
    pub(crate) fn is_beside(&self, other: &Documented) -> bool {
        self.query().is_some() && self.template == other.template
    }

    fn path_template(&self) -> &'static str {
        self.template.split_once('?').map_or(self.template, |(path, _)| path)
    }
}
