//! The master key: 32 bytes outside the database that open what the database holds sealed.
//!
//! As text it is `rcmk_` and 43 characters of Base64url without padding. It comes from the
//! configuration or from a key file that only its owner can read; the file is made once, whole or
//! not at all, and never overwritten.
//!
//! While one key takes over from another there are several, set apart by white space, the newest
//! first: it seals, and all of them open. What must not change with it (the keys of the audit
//! trail) is derived from a *root* that the database holds, sealed. That is also the check value
//! which tells at the start whether this is a key of this database.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::{SecretError, fill_random, sealed};

const PREFIX: &str = "rcmk_";
const CHECK_PURPOSE: &str = "master-key-check";
const ROOT_PURPOSE: &str = "root";

type Bytes = Zeroizing<[u8; 32]>;

/// The key that seals signing secrets, and those before it that still open them.
#[derive(Clone)]
pub struct MasterKey {
    newest: Bytes,
    older: Vec<Bytes>,
    root: Bytes,
}

impl MasterKey {
    /// Makes a new key.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        fill_random(bytes.as_mut_slice());
        Self::of(bytes, Vec::new())
    }

    fn of(newest: Bytes, older: Vec<Bytes>) -> Self {
        let root = sealed::derive(&newest, ROOT_PURPOSE);
        Self {
            newest,
            older,
            root,
        }
    }

    /// Reads the text form: one key, or several, the newest first, set apart by white space.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let keys: Result<Vec<Bytes>, SecretError> = text.split_whitespace().map(bytes_of).collect();
        let mut keys = keys?.into_iter();
        let newest = keys.next().ok_or(SecretError::NotAMasterKey)?;
        Ok(Self::of(newest, keys.collect()))
    }

    /// The text form of the newest key, for a key file or for showing it once.
    pub fn expose(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 43));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(self.newest.as_slice(), &mut text);
        text
    }

    /// Whether there are older keys beside the newest.
    pub fn has_older(&self) -> bool {
        !self.older.is_empty()
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
        sealed::seal(&self.newest, purpose, aad, plaintext)
    }

    /// Opens a value sealed with one of the keys and with the same purpose and `aad`.
    pub fn open(
        &self,
        purpose: &str,
        aad: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        [&self.newest]
            .into_iter()
            .chain(&self.older)
            .find_map(|key| sealed::open(key, purpose, aad, sealed).ok())
            .ok_or(SecretError::NotOpened)
    }

    /// Seals a value anew if it was not sealed with the newest key; `None` if it was.
    pub fn reseal(
        &self,
        purpose: &str,
        aad: &str,
        sealed: &[u8],
    ) -> Result<Option<Vec<u8>>, SecretError> {
        if sealed::open(&self.newest, purpose, aad, sealed).is_ok() {
            return Ok(None);
        }
        let opened = self.open(purpose, aad, sealed)?;
        Ok(Some(self.seal(purpose, aad, &opened)))
    }

    /// A key for one purpose that is not sealing; it stays when the master key is changed.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        sealed::derive(&self.root, purpose)
    }

    /// A value to store with a new database, for [`MasterKey::of_database`].
    pub fn check_value(&self) -> Vec<u8> {
        self.seal(CHECK_PURPOSE, "", self.root.as_slice())
    }

    /// The check value sealed with the newest key; `None` if it is already.
    pub fn reseal_check_value(&self, stored: &[u8]) -> Result<Option<Vec<u8>>, SecretError> {
        self.reseal(CHECK_PURPOSE, "", stored)
            .or(Err(SecretError::WrongMasterKey))
    }

    /// The key as the database with the stored check value knows it, if it is one of that database.
    pub fn of_database(self, stored: &[u8]) -> Result<Self, SecretError> {
        let opened = self.open(CHECK_PURPOSE, "", stored).ok();
        let root = opened
            .and_then(|opened| <[u8; 32]>::try_from(opened.as_slice()).ok())
            .ok_or(SecretError::WrongMasterKey)?;
        Ok(Self {
            root: Zeroizing::new(root),
            ..self
        })
    }
}

/// Reads one key.
fn bytes_of(text: &str) -> Result<Bytes, SecretError> {
    let encoded = text
        .strip_prefix(PREFIX)
        .ok_or(SecretError::NotAMasterKey)?;
    // The decoder's error quotes a byte of the key: it is dropped on purpose.
    let decoded = URL_SAFE_NO_PAD.decode(encoded).map(Zeroizing::new).ok();
    decoded
        .and_then(|decoded| <[u8; 32]>::try_from(decoded.as_slice()).ok())
        .map(Zeroizing::new)
        .ok_or(SecretError::NotAMasterKey)
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
        let known = key.clone().of_database(&stored).unwrap();
        assert_eq!(*known.derive("p"), *key.derive("p"));
        let other = MasterKey::generate().of_database(&stored);
        assert!(matches!(other, Err(SecretError::WrongMasterKey)));
        assert!(key.of_database(&[]).is_err());
    }

    #[test]
    fn a_new_key_takes_over_and_what_was_derived_stays() {
        let old = MasterKey::generate();
        let (sealed, check) = (old.seal("p", "a", b"text"), old.check_value());
        let new = MasterKey::generate();
        let both = format!("{}\n{}\n", *new.expose(), *old.expose());
        let both = MasterKey::parse(&both).unwrap();
        let both = both.of_database(&check).unwrap();
        assert!(both.has_older() && !new.has_older());
        assert_eq!(both.open("p", "a", &sealed).unwrap().as_slice(), b"text");
        assert_eq!(*both.derive("chain"), *old.derive("chain"));

        let resealed = both.reseal("p", "a", &sealed).unwrap().unwrap();
        assert_eq!(new.open("p", "a", &resealed).unwrap().as_slice(), b"text");
        assert!(old.open("p", "a", &resealed).is_err());
        assert!(both.reseal("p", "a", &resealed).unwrap().is_none());
        assert!(both.reseal("p", "b", &sealed).is_err(), "of another row");

        let check = both.reseal_check_value(&check).unwrap().unwrap();
        assert!(both.reseal_check_value(&check).unwrap().is_none());
        let alone = new.of_database(&check).unwrap();
        assert_eq!(*alone.derive("chain"), *old.derive("chain"));
        assert!(old.of_database(&check).is_err());
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
