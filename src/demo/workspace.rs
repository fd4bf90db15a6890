//! Where the demo lives: a directory of its own that goes when the demo ends, and a port.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

/// How many names are tried; other demos may be running.
const NAMES_MAX: u32 = 1_000;
const PORT: u16 = 8080;

/// A directory that is removed with all it holds when this value is dropped.
#[derive(Debug)]
pub(super) struct Workspace {
    path: PathBuf,
}

impl Workspace {
    /// Makes a new directory for this process, readable by nobody else.
    pub(super) fn create() -> io::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        for number in 0..NAMES_MAX {
            let name = format!("rollcall-demo-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match builder.create(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // If it cannot be removed, the system's own cleaning of temporary files will do it.
        drop(std::fs::remove_dir_all(&self.path));
    }
}

/// The address to listen on: the wanted one if it is free, else a free port beside it, and
/// whether that was necessary.
pub(super) fn address(wanted: Option<SocketAddr>) -> io::Result<(SocketAddr, bool)> {
    let wanted = wanted.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, PORT).into());
    match TcpListener::bind(wanted) {
        Ok(free) => Ok((free.local_addr()?, false)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Ok((TcpListener::bind((wanted.ip(), 0))?.local_addr()?, true))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_no_reason_to_fail() {
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let wanted = busy.local_addr().unwrap();
        let (found, is_other) = address(Some(wanted)).unwrap();
        assert!(is_other);
        assert_ne!(found.port(), wanted.port());
        assert_eq!(found.ip(), wanted.ip());
    }

    #[test]
    fn two_workspaces_differ_and_go_when_dropped() {
        let (first, second) = (Workspace::create().unwrap(), Workspace::create().unwrap());
        let path = first.path().to_owned();
        assert_ne!(path, second.path());
        std::fs::write(path.join("file"), "x").unwrap();
        drop(first);
        assert!(!path.exists());
    }
}
