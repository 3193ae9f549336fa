//! How a partition's metadata is laid out in `Table::Meta`: `keys` says where a record is, `records` how it is written.
//! FORMATS.md draws both.

pub(crate) mod keys;
pub(crate) mod records;
