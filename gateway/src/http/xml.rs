//! XML bodies as s3s understands them. Its reader leaves out CDATA sections and elements that it does not know, takes a
//! number for as much of a text as looks like one, and refuses half of all characters that are written as numbers: a
//! rule for `tmp/` would expire the whole bucket, a block of public access would not block.
//!
//! A document is written anew with its text as plain text, or found malformed, as S3 finds it. What elements mean, which of
//! them must be there, and what else a nested one may have, is left to s3s and to the operations.

use quick_xml::Reader;
use quick_xml::escape::{partial_escape, resolve_xml_entity};
use quick_xml::events::{BytesRef, Event};

/// More than S3's documents have: a key of a tag of a lifecycle's rule is on the sixth level.
const DEPTH_MAX: usize = 16;

/// Elements of a document. What is made of an empty one, of seven characters, can have 300 bytes, and that of each before an operation
/// counts them. The largest document that S3 takes completes an upload: 10,000 parts with number, tag and checksums.
const ELEMENTS_MAX: usize = 100_000;

/// Elements within one: S3 takes 1,000 rules of a lifecycle and 1,000 objects to delete, and has errors of its own for some more.
const CHILDREN_MAX: usize = 2_000;

/// Elements within the one that has most of them, and how many: S3 takes 10,000.
const PARTS_MAX: (&str, usize) = ("CompleteMultipartUpload", 20_000);

/// The elements of which s3s passes over what it does not know, and what S3 has in them.
const CHILDREN: &[(&str, &[&str])] = &[
    ("AccelerateConfiguration", &["Status"]),
    ("AccessControlList", &["Grant"]),
    ("AccessControlPolicy", &["AccessControlList", "Owner"]),
    ("BucketLifecycleConfiguration", &["Rule"]),
    ("BucketLoggingStatus", &["LoggingEnabled"]),
    ("CORSConfiguration", &["CORSRule"]),
    ("CompleteMultipartUpload", &["Part"]),
    ("CreateBucketConfiguration", &["Bucket", "Location", "LocationConstraint", "Tags"]),
    ("Delete", &["Object", "Quiet"]),
    ("LegalHold", &["Status"]),
    ("LifecycleConfiguration", &["Rule"]),
    (
        "NotificationConfiguration",
        &["CloudFunctionConfiguration", "EventBridgeConfiguration", "QueueConfiguration", "TopicConfiguration"],
    ),
    ("ObjectLockConfiguration", &["ObjectLockEnabled", "Rule"]),
    ("OwnershipControls", &["Rule"]),
    (
        "PublicAccessBlockConfiguration",
        &["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"],
    ),
    ("RequestPaymentConfiguration", &["Payer"]),
    ("Retention", &["Mode", "RetainUntilDate"]),
    ("RoutingRules", &["RoutingRule"]),
    ("ServerSideEncryptionConfiguration", &["Rule"]),
    ("TagSet", &["Tag"]),
    ("Tagging", &["TagSet"]),
    ("Tags", &["Tag"]),
    ("TargetGrants", &["Grant"]),
    ("VersioningConfiguration", &["MfaDelete", "Status"]),
    ("WebsiteConfiguration", &["ErrorDocument", "IndexDocument", "RedirectAllRequestsTo", "RoutingRules"]),
];

/// The elements that are whole numbers.
const NUMBERS: &[&str] = &[
    "Days",
    "DaysAfterInitiation",
    "MaxAgeSeconds",
    "NewerNoncurrentVersions",
    "NoncurrentDays",
    "ObjectSizeGreaterThan",
    "ObjectSizeLessThan",
    "PartNumber",
    "Size",
    "Years",
];

/// S3 has no such document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// The document with nothing in it that its reader would pass over.
pub(super) fn plain(document: &[u8]) -> Result<String, Malformed> {
    let text = std::str::from_utf8(document).map_err(|_| Malformed)?;
    let mut reader = Reader::from_str(text);
    let written = String::with_capacity(text.len());
    let mut rewriting = Rewriting { written, open: Vec::new(), elements: 0, roots: 0 };
    loop {
        match reader.read_event().map_err(|_| Malformed)? {
            Event::Start(tag) => rewriting.start(utf8(&tag)?, utf8(tag.name().as_ref())?)?,
            Event::Empty(tag) => {
                rewriting.start(utf8(&tag)?, utf8(tag.name().as_ref())?)?;
                rewriting.end()?;
            }
            Event::End(_) => rewriting.end()?,
            Event::Text(text) => rewriting.text(utf8(&text)?)?,
            Event::CData(text) => rewriting.text(utf8(&text)?)?,
            Event::GeneralRef(reference) => rewriting.text(&character(&reference)?)?,
            Event::Eof => return rewriting.finish(),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// A document that is written anew as it is read.
struct Rewriting {
    written: String,
    /// The elements that have not ended, the root first.
    open: Vec<Element>,
    elements: usize,
    roots: usize,
}

/// An element that has begun.
struct Element {
    name: String,
    text: String,
    /// How many it has.
    elements: usize,
}

impl Rewriting {
    fn start(&mut self, tag: &str, name: &str) -> Result<(), Malformed> {
        let is_known = match self.open.last_mut() {
            Some(parent) => parent.takes(name),
            None => {
                self.roots += 1;
                self.roots == 1
            }
        };
        self.elements += 1;
        if !is_known || self.open.len() == DEPTH_MAX || self.elements > ELEMENTS_MAX {
            return Err(Malformed);
        }
        self.written.extend(["<", tag, ">"]);
        self.open.push(Element { name: name.to_owned(), text: String::new(), elements: 0 });
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Malformed> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if is_blank(text) => {}
            None => return Err(Malformed),
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Malformed> {
        let element = self.open.pop().ok_or(Malformed)?;
        // A carriage return that a reader meets as such may become a line feed.
        self.written.push_str(&partial_escape(element.content()?).replace('\r', "&#13;"));
        self.written.extend(["</", &element.name, ">"]);
        Ok(())
    }

    fn finish(self) -> Result<String, Malformed> {
        if self.open.is_empty() && self.roots == 1 { Ok(self.written) } else { Err(Malformed) }
    }
}

impl Element {
    /// Whether it may have one more element, of that name, as far as that is asked here.
    fn takes(&mut self, name: &str) -> bool {
        self.elements += 1;
        let (of_parts, parts_max) = PARTS_MAX;
        let most = if self.name == of_parts { parts_max } else { CHILDREN_MAX };
        self.elements <= most && self.children().is_none_or(|children| children.contains(&name))
    }

    /// Its text. What has elements has none but white space.
    fn content(&self) -> Result<&str, Malformed> {
        if self.elements > 0 || self.children().is_some() {
            return if is_blank(&self.text) { Ok("") } else { Err(Malformed) };
        }
        if NUMBERS.contains(&self.name.as_str()) {
            let number = self.text.trim();
            return number.parse::<i64>().map(|_| number).map_err(|_| Malformed);
        }
        Ok(&self.text)
    }

    fn children(&self) -> Option<&'static [&'static str]> {
        CHILDREN.iter().find(|(parent, _)| *parent == self.name).map(|(_, children)| *children)
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// What a reference stands for: one of the five that XML has, or a character by its number.
fn character(reference: &BytesRef<'_>) -> Result<String, Malformed> {
    if let Some(character) = reference.resolve_char_ref().map_err(|_| Malformed)? {
        return if is_character(character) { Ok(character.to_string()) } else { Err(Malformed) };
    }
    resolve_xml_entity(utf8(reference)?).map(str::to_owned).ok_or(Malformed)
}

/// See "Characters" in XML 1.0.
fn is_character(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::{CHILDREN, CHILDREN_MAX, DEPTH_MAX, ELEMENTS_MAX, Malformed, NUMBERS, PARTS_MAX, plain};

    fn is_malformed(document: &str) -> bool {
        plain(document.as_bytes()) == Err(Malformed)
    }

    #[test]
    fn text_is_text_however_it_is_written() {
        for (document, expected) in [
            ("<Prefix><![CDATA[tmp/]]></Prefix>", "<Prefix>tmp/</Prefix>"),
            ("<Key>a<![CDATA[<b>&amp;]]>c</Key>", "<Key>a&lt;b&gt;&amp;amp;c</Key>"),
            ("<Key>a<!-- b -->c</Key>", "<Key>ac</Key>"),
            ("<Key>&#x1F600;&#128512;&#13;&#x41;&quot;</Key>", "<Key>\u{1f600}\u{1f600}&#13;A\"</Key>"),
            ("<Key> a\nb </Key>", "<Key> a\nb </Key>"),
            ("<Days> 3\n</Days>", "<Days>3</Days>"),
            ("<Days><![CDATA[3]]></Days>", "<Days>3</Days>"),
        ] {
            assert_eq!(plain(document.as_bytes()).as_deref(), Ok(expected), "{document}");
        }
    }

    #[test]
    fn a_document_keeps_its_elements_and_attributes() {
        let document = "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Delete xmlns=\"x\">\n  \
                        <Object><Key>k</Key><Size>1</Size></Object>\n  <Object a='b'/>\n</Delete>\n";
        let expected =
            "<Delete xmlns=\"x\"><Object><Key>k</Key><Size>1</Size></Object><Object a='b'></Object></Delete>";
        assert_eq!(plain(document.as_bytes()).as_deref(), Ok(expected));
    }

    #[test]
    fn what_is_no_document_is_malformed() {
        for document in [
            "",
            " ",
            "<a>",
            "</a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>x",
            "x<a/>",
            "<a>&b;</a>",
            "<a>&#0;</a>",
            "<a>&#1;</a>",
        ] {
            assert!(is_malformed(document), "{document}");
        }
        assert_eq!(plain(b"<a>\xff</a>"), Err(Malformed));
        let deep = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
        assert!(plain(deep(DEPTH_MAX).as_bytes()).is_ok());
        assert!(is_malformed(&deep(DEPTH_MAX + 1)));
    }

    #[test]
    fn a_document_has_so_many_elements() {
        let document = |root: &str, child: &str, count| format!("<{root}>{}</{root}>", child.repeat(count));
        for (root, child) in [("LifecycleConfiguration", "<Rule/>"), ("TagSet", "<Tag></Tag>"), ("Unheard", "<Of/>")] {
            assert!(plain(document(root, child, CHILDREN_MAX).as_bytes()).is_ok(), "{root}");
            assert!(is_malformed(&document(root, child, CHILDREN_MAX + 1)), "{root}");
        }
        let (upload, parts_max) = PARTS_MAX;
        assert!(plain(document(upload, "<Part/>", parts_max).as_bytes()).is_ok());
        assert!(is_malformed(&document(upload, "<Part/>", parts_max + 1)));
        // With the root and the parts, these are all there may be, and one more.
        let full = format!("<Part>{}</Part>", "<ETag/>".repeat(9));
        let parts = ELEMENTS_MAX / 10;
        let all = full.repeat(parts - 1) + &format!("<Part>{}</Part>", "<ETag/>".repeat(8));
        assert!(plain(document(upload, &all, 1).as_bytes()).is_ok());
        assert!(is_malformed(&document(upload, &full, parts)));
    }

    #[test]
    fn nothing_stands_where_nobody_would_read_it() {
        for (parent, children) in CHILDREN {
            assert!(is_malformed(&format!("<{parent}><Unheard/></{parent}>")), "{parent}");
            assert!(is_malformed(&format!("<{parent}>text</{parent}>")), "{parent}");
            for child in *children {
                assert!(plain(format!("<{parent}><{child}/></{parent}>").as_bytes()).is_ok(), "{parent}/{child}");
                assert!(is_malformed(&format!("<{parent}><{child}/>text</{parent}>")), "{parent}/{child}");
            }
        }
        assert!(is_malformed("<Rule>x<Status/></Rule>"));
    }

    #[test]
    fn numbers_are_numbers_to_their_end() {
        for name in NUMBERS {
            for value in ["3O", "5x", "", "1.0", "0x1", "1 2", "9223372036854775808"] {
                assert!(is_malformed(&format!("<{name}>{value}</{name}>")), "{name} {value}");
            }
            assert!(plain(format!("<{name}>-30</{name}>").as_bytes()).is_ok(), "{name}");
        }
    }
}
