//! How a partition's metadata is laid out in `Table::Meta`: `keys` says where a record is, `records` how it is written,
//! `find` which record a version is.
//! FORMATS.md draws both.

pub(crate) mod find;
pub(crate) mod keys;
pub(crate) mod records;
