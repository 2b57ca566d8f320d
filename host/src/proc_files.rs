//! Linux's descriptions of the machine and of a process: files of `NAME: VALUE` lines.

/// What stands behind a name and a colon; `None` on other systems and where it is not there.
pub(crate) fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(found, _)| found.trim() == name)?;
    Some(value.trim().to_owned())
}

/// The same where it is so many kB, in bytes.
pub(crate) fn bytes(path: &str, name: &str) -> Option<u64> {
    let value = field(path, name)?;
    let kibibytes: u64 = value.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}
