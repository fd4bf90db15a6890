//! The master key: 32 bytes outside the database that open what the database holds sealed.
//!
//! As text it is `rcmk_` and 43 characters of Base64url without padding. It comes from the
//! configuration or from a key file that only its owner can read; the file is made once, whole or
//! not at all, and never overwritten. A check value in the database tells at the start whether
//! this is the key that the database was set up with.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{SecretError, fill_random, sealed};

const PREFIX: &str = "rcmk_";
const CHECK_PURPOSE: &str = "master-key-check";
const CHECK_TEXT: &[u8] = b"this database belongs to this master key";

/// The key that seals signing secrets.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// Makes a new key.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        fill_random(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Reads the text form; white space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text
            .trim()
            .strip_prefix(PREFIX)
            .ok_or(SecretError::NotAMasterKey)?;
        // The decoder's error quotes a byte of the key: it is dropped on purpose.
        let decoded = URL_SAFE_NO_PAD.decode(encoded).map(Zeroizing::new).ok();
        let bytes = decoded
            .and_then(|decoded| <[u8; 32]>::try_from(decoded.as_slice()).ok())
            .ok_or(SecretError::NotAMasterKey)?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// The text form, for a key file or for showing it once.
    pub fn expose(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 43));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(self.0.as_slice(), &mut text);
        text
    }

    /// Reads the key file; makes it first when there is none and `may_create` allows that.
    ///
    /// Pass `may_create` only for a database that holds nothing sealed yet: a new key beside an
    /// old database hides that the old key is lost.
    pub fn load_or_create(path: &Path, may_create: bool) -> Result<Self, SecretError> {
        match load(path) {
            Err(SecretError::KeyFileMissing { .. }) if may_create => {}
            loaded => return loaded,
        }
        let key = Self::generate();
        match create(path, &key.expose()) {
            Ok(()) => Ok(key),
            // Another process was faster; its key is the one.
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => load(path),
            Err(source) => Err(SecretError::KeyFileNotWritten {
                path: PathBuf::from(path),
                source,
            }),
        }
    }

    /// Seals a value. `purpose` selects the derived key, `aad` binds the value to its row.
    pub fn seal(&self, purpose: &str, aad: &str, plaintext: &[u8]) -> Vec<u8> {
        sealed::seal(&self.0, purpose, aad, plaintext)
    }

    /// Opens a value sealed with the same key, purpose and `aad`.
    pub fn open(
        &self,
        purpose: &str,
        aad: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        sealed::open(&self.0, purpose, aad, sealed)
    }

    /// A key for one purpose that is not sealing.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        sealed::derive(&self.0, purpose)
    }

    /// A value to store with a new database, for [`MasterKey::verify_check_value`].
    pub fn check_value(&self) -> Vec<u8> {
        self.seal(CHECK_PURPOSE, "", CHECK_TEXT)
    }

    /// Is this the key with which the stored check value was made?
    pub fn verify_check_value(&self, stored: &[u8]) -> Result<(), SecretError> {
        let is_right = self
            .open(CHECK_PURPOSE, "", stored)
            .is_ok_and(|opened| opened.as_slice().ct_eq(CHECK_TEXT).into());
        if is_right {
            Ok(())
        } else {
            Err(SecretError::WrongMasterKey)
        }
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MasterKey(…)")
    }
}

fn load(path: &Path) -> Result<MasterKey, SecretError> {
    let unreadable = |source: io::Error| {
        let path = PathBuf::from(path);
        if source.kind() == io::ErrorKind::NotFound {
            SecretError::KeyFileMissing { path }
        } else {
            SecretError::KeyFileUnreadable { path, source }
        }
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    refuse_exposed(path, &metadata)?;
    let bytes = fs::read(path).map(Zeroizing::new).map_err(unreadable)?;
    std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| MasterKey::parse(text).ok())
        .ok_or_else(|| SecretError::KeyFileGarbled {
            path: PathBuf::from(path),
        })
}

#[cfg(unix)]
fn refuse_exposed(path: &Path, metadata: &fs::Metadata) -> Result<(), SecretError> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(SecretError::KeyFileExposed {
            path: PathBuf::from(path),
            mode,
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_exposed(_path: &Path, _metadata: &fs::Metadata) -> Result<(), SecretError> {
    Ok(())
}

/// Writes the key beside its place and links it there, so that neither a crash nor a second
/// process starting at the same moment ever finds half a key.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    // Not the process id: in a container that is always the same, and a file left behind by a
    // crash would then stand in the way for ever.
    let mut unique = [0_u8; 8];
    fill_random(&mut unique);
    beside.push(format!(".{:016x}.new", u64::from_be_bytes(unique)));
    let beside = PathBuf::from(beside);
    write_new(&beside, text)?;
    let linked = fs::hard_link(&beside, path);
    let removed = fs::remove_file(&beside);
    match linked {
        Ok(()) => removed.and_then(|()| sync_directory_of(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Some network and desktop file systems know no hard links.
        Err(_) => write_new(path, text).and_then(|()| sync_directory_of(path)),
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Makes the new name itself survive a power cut: a key lost after its first use is lost data.
#[cfg(unix)]
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory_of(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_reads_back_and_debug_hides_it() {
        let key = MasterKey::generate();
        let text = key.expose();
        assert_eq!(text.len(), 48);
        assert_eq!(
            *MasterKey::parse(&format!(" {}\n", *text)).unwrap().expose(),
            *text
        );
        assert_eq!(format!("{key:?}"), "MasterKey(…)");
        for wrong in [
            "",
            "rcmk_",
            "rcmk_AAAA",
            text.trim_start_matches("rcmk_"),
            &format!("{}A", *text),
        ] {
            assert!(MasterKey::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_sealed_value_opens_only_where_it_was_sealed() {
        let key = MasterKey::generate();
        let sealed = key.seal("webhook-secret", "endpoint|we_1", b"whsec_x");
        assert_eq!(
            key.open("webhook-secret", "endpoint|we_1", &sealed)
                .unwrap()
                .as_slice(),
            b"whsec_x"
        );
        assert!(
            key.open("webhook-secret", "endpoint|we_2", &sealed)
                .is_err()
        );
        assert!(key.open("other", "endpoint|we_1", &sealed).is_err());
        assert!(
            MasterKey::generate()
                .open("webhook-secret", "endpoint|we_1", &sealed)
                .is_err()
        );
        assert_ne!(
            sealed,
            key.seal("webhook-secret", "endpoint|we_1", b"whsec_x")
        );
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let key = MasterKey::generate();
        let sealed = key.seal("p", "a", b"text");
        for index in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[index] ^= 1;
            assert!(key.open("p", "a", &altered).is_err(), "byte {index}");
            assert!(
                key.open("p", "a", &sealed[..index]).is_err(),
                "cut at {index}"
            );
        }
    }

    #[test]
    fn the_check_value_tells_the_right_key_from_a_wrong_one() {
        let key = MasterKey::generate();
        let stored = key.check_value();
        assert!(key.verify_check_value(&stored).is_ok());
        let other = MasterKey::generate().verify_check_value(&stored);
        assert!(matches!(other, Err(SecretError::WrongMasterKey)));
        assert!(key.verify_check_value(&[]).is_err());
    }

    #[test]
    fn a_key_file_is_made_once_and_read_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let refused = MasterKey::load_or_create(&path, false);
        assert!(matches!(refused, Err(SecretError::KeyFileMissing { .. })));
        let made = MasterKey::load_or_create(&path, true).unwrap();
        let read = MasterKey::load_or_create(&path, true).unwrap();
        assert_eq!(*made.expose(), *read.expose());
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "no file is left beside it"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_is_private_and_an_exposed_or_garbled_one_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        MasterKey::load_or_create(&path, true).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let message = MasterKey::load_or_create(&path, true)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("mode 640") && message.contains("chmod 600"),
            "{message}"
        );
        assert!(!message.contains('\n'));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "rcmk_half").unwrap();
        let garbled = MasterKey::load_or_create(&path, true);
        assert!(matches!(garbled, Err(SecretError::KeyFileGarbled { .. })));
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "rcmk_half",
            "never overwritten"
        );
    }

    #[test]
    fn a_directory_that_does_not_exist_is_a_clear_error() {
        let message = MasterKey::load_or_create(Path::new("/nonexistent/rollcall/key"), true)
            .unwrap_err()
            .to_string();
        assert!(message.contains("cannot be written"), "{message}");
    }
}
