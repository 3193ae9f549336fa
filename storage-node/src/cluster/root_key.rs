//! The administrator's first key: as configured, or drawn at random and written where only the operator can read it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rand::Rng;
use tracing::info;

use super::formation::RootKey;

/// Where a drawn key is written, in the data directory: as a shell reads it, for the tools that sign by it.
pub const FILE_NAME: &str = "root-credentials";

const ACCESS_KEY_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SECRET_KEY_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// As long as AWS's: clients and people expect it.
const ACCESS_KEY_CHARS: usize = 20;
const SECRET_KEY_CHARS: usize = 40;

/// Draws a key; it is on disk, for its owner's eyes only, when this returns. What an earlier try left is replaced.
pub fn draw(data_dir: &Path) -> io::Result<RootKey> {
    let key = RootKey {
        access_key: draw_text(ACCESS_KEY_ALPHABET, ACCESS_KEY_CHARS),
        secret_key: draw_text(SECRET_KEY_ALPHABET, SECRET_KEY_CHARS),
    };
    let path = data_dir.join(FILE_NAME);
    let incomplete = data_dir.join(format!("{FILE_NAME}.new"));
    if let Err(error) = fs::remove_file(&incomplete)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&incomplete)?;
    write!(file, "AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\n", key.access_key, key.secret_key)?;
    file.sync_all()?;
    fs::rename(&incomplete, &path)?;
    File::open(data_dir)?.sync_all()?;
    info!(path = %path.display(), "root credentials drawn; read them there");
    Ok(key)
}

fn draw_text(alphabet: &[u8], chars: usize) -> String {
    let mut random = rand::rng();
    (0..chars).map(|_| char::from(alphabet[random.random_range(0..alphabet.len())])).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::{FILE_NAME, draw};

    #[test]
    fn a_drawn_key_is_in_a_file_that_others_cannot_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        let first = draw(directory.path()).unwrap();
        let second = draw(directory.path()).unwrap();
        assert!(first != second);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            format!("AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\n", second.access_key, second.secret_key)
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!((second.access_key.len(), second.secret_key.len()), (20, 40));
    }
}
