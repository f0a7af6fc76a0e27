//! Disk images: which file system one holds, and a loop device to mount it
//! from; loop(4).
//!
//! An image is untrusted. Its superblock is read to refuse early, with a
//! reason, what the kernel would refuse with `EINVAL`; all other checks are
//! the kernel's. Mounting is done elsewhere.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::sys;

/// A file system that an image may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// squashfs 4.0.
    Squashfs,
    /// EROFS.
    Erofs,
    /// ext4, and ext2 and ext3, which the same driver mounts.
    Ext4,
}

/// All of them.
pub const FILESYSTEMS: [Filesystem; 3] =
    [Filesystem::Squashfs, Filesystem::Erofs, Filesystem::Ext4];

impl Filesystem {
    /// The name that mount(2) knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::Ext4 => "ext4",
        }
    }

    /// Bytes that its driver reads at least. Only squashfs has a size that is
    /// counted in anything else than its own blocks.
    fn block(self) -> u64 {
        match self {
            Self::Squashfs => 1024,
            Self::Erofs | Self::Ext4 => SECTOR,
        }
    }
}

/// A file system in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Which.
    pub filesystem: Filesystem,
    /// How many bytes it takes from its offset, in whole blocks.
    pub size: u64,
}

/// An image that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It is something else than a regular file.
    NotRegular,
    /// Its descriptor is not open for reading only.
    NotReadOnly,
    /// It holds none of the file systems; what was seen instead.
    Other(&'static str),
    /// It has the marks of two file systems, as after formatting it again.
    Ambiguous(Filesystem, Filesystem),
    /// It ends before its file system does, in bytes from the offset.
    Truncated {
        /// The file system.
        filesystem: Filesystem,
        /// Its size.
        needed: u64,
        /// What is there of it.
        found: u64,
    },
    /// It ends within a block, which cannot be read from a device.
    Unpadded {
        /// The file system.
        filesystem: Filesystem,
        /// Bytes missing to the end of the block.
        missing: u64,
    },
    /// It was not unmounted, and its journal cannot be replayed read-only.
    Unclean,
    /// A system call failed.
    Failed {
        /// The call.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRegular => f.write_str("an image must be a regular file"),
            Self::NotReadOnly => f.write_str("an image must be open for reading only"),
            Self::Other(seen) => {
                write!(f, "found {seen}, expected squashfs, erofs or ext4")
            }
            Self::Ambiguous(one, other) => {
                write!(
                    f,
                    "has the marks of both {} and {}: `fstype` chooses one",
                    one.name(),
                    other.name()
                )
            }
            Self::Truncated { filesystem, needed, found } => {
                let name = filesystem.name();
                write!(f, "truncated: its {name} takes {needed} bytes, {found} are there")
            }
            Self::Unpadded { filesystem, missing } => {
                let name = filesystem.name();
                write!(f, "its {name} ends within a block: append {missing} zero bytes")
            }
            Self::Unclean => f.write_str(
                "its ext4 was not unmounted cleanly, and is mounted read-only: repair it with `e2fsck -p`",
            ),
            Self::Failed { call, path, errno } => {
                write!(f, "{call} of `{}` failed: {errno}", path.display())?;
                match (*call, errno) {
                    ("open", Errno::EACCES | Errno::EPERM) => {
                        f.write_str("; loop devices need root")
                    }
                    ("open", Errno::ENOENT) => f.write_str("; no loop devices here"),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for ImageError {}

/// Bytes of a sector, the unit of block devices.
const SECTOR: u64 = 512;

/// The beginning of an image, as far as marks of file systems are found.
struct Head(Vec<u8>);

impl Head {
    const SIZE: usize = 0x1_0048;

    fn read(file: &File, offset: u64) -> io::Result<Self> {
        let mut head = vec![0; Self::SIZE];
        let mut length = 0;
        while length < head.len() {
            match file.read_at(&mut head[length..], offset.saturating_add(length as u64)) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => length += read?,
            }
        }
        head.truncate(length);
        Ok(Self(head))
    }

    fn has(&self, at: usize, magic: &[u8]) -> bool {
        self.0.get(at..at + magic.len()) == Some(magic)
    }

    /// A little-endian number; `None` past the end.
    fn number<const BYTES: usize>(&self, at: usize) -> Option<u64> {
        let mut number = [0; 8];
        number[..BYTES].copy_from_slice(self.0.get(at..at + BYTES)?);
        Some(u64::from_le_bytes(number))
    }

    /// Bytes that a file system takes by its superblock; `None` when there is
    /// none of it.
    fn size(&self, filesystem: Filesystem) -> Option<u64> {
        match filesystem {
            Filesystem::Squashfs => {
                let is_version_4 = self.has(28, &[4, 0, 0, 0]);
                if self.has(0, b"hsqs") && is_version_4 { self.number::<8>(40) } else { None }
            }
            Filesystem::Erofs => {
                const INCOMPAT_48BIT: u64 = 0x80;
                let at = 1024;
                if !self.has(at, &0xe0f5_e1e2_u32.to_le_bytes()) {
                    return None;
                }
                let bits = self.number::<1>(at + 12)?;
                let is_wide = self.number::<4>(at + 80)? & INCOMPAT_48BIT != 0;
                let high = if is_wide { self.number::<2>(at + 14)? } else { 0 };
                sized(self.number::<4>(at + 36)? | high << 32, bits, 9..=16)
            }
            Filesystem::Ext4 => {
                const INCOMPAT_64BIT: u64 = 0x80;
                let at = 1024;
                if !self.has(at + 0x38, &0xef53_u16.to_le_bytes()) {
                    return None;
                }
                let bits = self.number::<4>(at + 0x18)?.saturating_add(10);
                let is_wide = self.number::<4>(at + 0x60)? & INCOMPAT_64BIT != 0;
                let high = if is_wide { self.number::<4>(at + 0x150)? } else { 0 };
                sized(self.number::<4>(at + 0x4)? | high << 32, bits, 10..=16)
            }
        }
    }

    /// Whether the journal of an ext4 holds what its blocks do not.
    fn is_unclean(&self) -> bool {
        const INCOMPAT_RECOVER: u64 = 0x4;
        self.number::<4>(1024 + 0x60).is_some_and(|features| features & INCOMPAT_RECOVER != 0)
    }

    /// What it is if it is no file system that can be mounted.
    fn describe(&self) -> &'static str {
        const MARKS: &[(usize, &[u8], &str)] = &[
            (0, b"hsqs", "a squashfs of another version than 4.0"),
            (0, b"sqsh", "a big-endian squashfs"),
            (0, b"XFSB", "an XFS file system"),
            (0x1_0040, b"_BHRfS_M", "a Btrfs file system"),
            (1024, &[0x10, 0x20, 0xf5, 0xf2], "an F2FS file system"),
            (82, b"FAT32   ", "a FAT file system"),
            (54, b"FAT1", "a FAT file system"),
            (3, b"NTFS    ", "an NTFS file system"),
            (0x8001, b"CD001", "an ISO 9660 image"),
            (0, b"LUKS\xba\xbe", "an encrypted (LUKS) volume"),
            (0x218, b"LVM2 001", "an LVM volume"),
            (0, b"QFI\xfb", "a qcow2 image"),
            (0, b"KDMV", "a VMDK image"),
            (0, b"vhdxfile", "a VHDX image"),
            (0, b"\x1f\x8b", "a file compressed by gzip"),
            (0, b"\x28\xb5\x2f\xfd", "a file compressed by zstd"),
            (0, b"\xfd7zXZ\0", "a file compressed by xz"),
            (0, b"BZh", "a file compressed by bzip2"),
            (0, b"PK\x03\x04", "a zip archive"),
            (257, b"ustar", "a tar archive"),
            (0, b"\x7fELF", "an ELF program"),
            (512, b"EFI PART", "a GPT partition table (`offset` is where a partition begins)"),
            (510, b"\x55\xaa", "a boot sector (`offset` is where a partition begins)"),
        ];
        match MARKS.iter().find(|(at, magic, _)| self.has(*at, magic)) {
            Some((.., name)) => name,
            None if self.0.iter().all(|byte| *byte == 0) => "nothing but zeroes",
            None => "no mark of a file system",
        }
    }
}

/// Bytes of so many blocks of a plausible size.
fn sized(blocks: u64, bits: u64, plausible: std::ops::RangeInclusive<u64>) -> Option<u64> {
    plausible.contains(&bits).then(|| blocks.saturating_mul(1 << bits))
}

fn failed(call: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(Errno) -> ImageError {
    let path = path.into();
    move |errno| ImageError::Failed { call, path, errno }
}

fn refuse_irregular(file: BorrowedFd<'_>) -> Result<u64, ImageError> {
    let stat = fstat(file).map_err(failed("fstat", "the image"))?;
    if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(ImageError::NotRegular);
    }
    Ok(stat.st_size.cast_unsigned())
}

/// Finds out which file system begins at an offset of an image, and that it is
/// all there.
pub fn detect(file: &File, offset: u64) -> Result<Image, ImageError> {
    examine(file, offset, &FILESYSTEMS)
}

/// The same where the file system is known.
pub fn expect(file: &File, offset: u64, filesystem: Filesystem) -> Result<Image, ImageError> {
    examine(file, offset, &[filesystem])
}

fn examine(file: &File, offset: u64, candidates: &[Filesystem]) -> Result<Image, ImageError> {
    let length = refuse_irregular(file.as_fd())?;
    if offset >= length {
        return Err(ImageError::Other("nothing at the offset"));
    }
    let head = Head::read(file, offset)
        .map_err(|error| Errno::try_from(error).unwrap_or(Errno::EIO))
        .map_err(failed("pread", "the image"))?;
    let mut found = candidates
        .iter()
        .filter_map(|filesystem| head.size(*filesystem).map(|size| (*filesystem, size)));
    let Some((filesystem, size)) = found.next() else {
        return Err(ImageError::Other(head.describe()));
    };
    if let Some((other, _)) = found.next() {
        return Err(ImageError::Ambiguous(filesystem, other));
    }
    let available = length.saturating_sub(offset);
    if size > available {
        return Err(ImageError::Truncated { filesystem, needed: size, found: available });
    }
    let (unpadded, size) = (size, size.checked_next_multiple_of(filesystem.block()));
    let size = size.unwrap_or(unpadded);
    if size > available {
        return Err(ImageError::Unpadded { filesystem, missing: size - available });
    }
    if filesystem == Filesystem::Ext4 && head.is_unclean() {
        return Err(ImageError::Unclean);
    }
    Ok(Image { filesystem, size })
}

/// A loop device that exists as long as this descriptor, or a mount of it, is
/// there: the kernel detaches it after the last user, however that ends.
#[derive(Debug)]
pub struct LoopDevice {
    /// The open device.
    pub fd: OwnedFd,
    /// Its path.
    pub path: PathBuf,
    /// Its number.
    pub number: u32,
}

/// Attaches a part of an image, which must be open for reading only, to a loop
/// device of its own, read-only. A limit is rounded up to whole sectors.
pub fn attach(
    image: BorrowedFd<'_>,
    offset: u64,
    size_limit: Option<u64>,
) -> Result<LoopDevice, ImageError> {
    /// How often another process may be faster.
    const TRIES: u32 = 64;
    refuse_irregular(image)?;
    let flags = fcntl(image, FcntlArg::F_GETFL).map_err(failed("fcntl", "the image"))?;
    let flags = OFlag::from_bits_truncate(flags);
    if flags & OFlag::O_ACCMODE != OFlag::O_RDONLY || flags.contains(OFlag::O_PATH) {
        return Err(ImageError::NotReadOnly);
    }
    let size = size_limit.map(|size| size.next_multiple_of(SECTOR));
    if size == Some(0) {
        // To the kernel it would mean no limit.
        return Err(failed("LOOP_CONFIGURE", "the image")(Errno::EINVAL));
    }
    let control_path = Path::new("/dev/loop-control");
    let control = open(control_path, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(failed("open", control_path))?;
    let mut tries = TRIES;
    loop {
        let number = sys::loop_get_free(control.as_fd())
            .map_err(failed("LOOP_CTL_GET_FREE", control_path))?;
        match configure(number, image, offset, size) {
            // Between the two calls another process has taken or removed it.
            Err(ImageError::Failed { errno, .. }) if tries > 0 && is_race(errno) => tries -= 1,
            attached => return attached,
        }
    }
}

fn is_race(errno: Errno) -> bool {
    matches!(errno, Errno::EBUSY | Errno::ENXIO | Errno::ENODEV | Errno::ENOENT)
}

fn configure(
    number: u32,
    image: BorrowedFd<'_>,
    offset: u64,
    size: Option<u64>,
) -> Result<LoopDevice, ImageError> {
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = open(&path, flags, Mode::empty()).map_err(failed("open", &path))?;
    sys::loop_configure(fd.as_fd(), image, SECTOR as u32, offset, size)
        .map_err(failed("LOOP_CONFIGURE", &path))?;
    Ok(LoopDevice { fd, path, number })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with bytes at places, of a length.
    fn image(length: u64, parts: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(length).unwrap();
        for (at, bytes) in parts {
            file.write_all_at(bytes, *at).unwrap();
        }
        file
    }

    fn squashfs(size: u64) -> [u8; 48] {
        let mut block = [0; 48];
        block[..4].copy_from_slice(b"hsqs");
        block[28] = 4;
        block[40..].copy_from_slice(&size.to_le_bytes());
        block
    }

    fn erofs(bits: u8, blocks: u32, high: Option<u16>) -> [u8; 96] {
        let mut block = [0; 96];
        block[..4].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
        block[12] = bits;
        // Without the feature this is the number of the root.
        block[14..16].copy_from_slice(&high.unwrap_or(36).to_le_bytes());
        block[36..40].copy_from_slice(&blocks.to_le_bytes());
        block[80] = if high.is_some() { 0x80 } else { 0 };
        block
    }

    fn ext4(log: u32, blocks: u32, high: Option<u32>, incompat: u8) -> [u8; 0x154] {
        let mut block = [0; 0x154];
        block[4..8].copy_from_slice(&blocks.to_le_bytes());
        block[0x18..0x1c].copy_from_slice(&log.to_le_bytes());
        block[0x38..0x3a].copy_from_slice(&0xef53_u16.to_le_bytes());
        block[0x60] = incompat | if high.is_some() { 0x80 } else { 0 };
        block[0x150..].copy_from_slice(&high.unwrap_or(7).to_le_bytes());
        block
    }

    #[test]
    fn sizes_are_those_of_the_superblocks() {
        let needed = |parts: &[(u64, &[u8])]| match detect(&image(4096, parts), 0) {
            Err(ImageError::Truncated { filesystem, needed, found: 4096 }) => (filesystem, needed),
            other => panic!("{other:?}"),
        };
        use Filesystem::{Erofs, Ext4, Squashfs};
        assert_eq!(needed(&[(0, &squashfs(1 << 40))]), (Squashfs, 1 << 40));
        assert_eq!(needed(&[(1024, &erofs(12, 5, None))]), (Erofs, 5 << 12));
        assert_eq!(needed(&[(1024, &erofs(9, 5, Some(3)))]), (Erofs, (3 << 32 | 5) << 9));
        assert_eq!(needed(&[(1024, &ext4(0, 5, None, 0))]), (Ext4, 5 << 10));
        assert_eq!(needed(&[(1024, &ext4(2, 5, Some(3), 0))]), (Ext4, (3 << 32 | 5) << 12));
        // What no file can have is still only too much.
        assert_eq!(needed(&[(1024, &ext4(6, 5, Some(u32::MAX), 0))]), (Ext4, u64::MAX));
    }

    #[test]
    fn the_end_of_an_image_is_that_of_its_last_block() {
        let detect = |length| detect(&image(length, &[(0, &squashfs(1500))]), 0);
        let filesystem = Filesystem::Squashfs;
        assert_eq!(detect(2048), Ok(Image { filesystem, size: 2048 }));
        assert_eq!(detect(2047), Err(ImageError::Unpadded { filesystem, missing: 1 }));
        assert_eq!(detect(1500), Err(ImageError::Unpadded { filesystem, missing: 548 }));
        let (needed, found) = (1500, 1499);
        assert_eq!(detect(1499), Err(ImageError::Truncated { filesystem, needed, found }));
    }

    #[test]
    fn an_offset_counts_towards_the_end() {
        let filesystem = Filesystem::Squashfs;
        let file = image((1 << 20) + 4096, &[(1 << 20, &squashfs(4096))]);
        assert_eq!(detect(&file, 1 << 20), Ok(Image { filesystem, size: 4096 }));
        assert_eq!(detect(&file, 0), Err(ImageError::Other("nothing but zeroes")));
        assert_eq!(detect(&file, 2 << 20), Err(ImageError::Other("nothing at the offset")));
        assert_eq!(detect(&file, u64::MAX), Err(ImageError::Other("nothing at the offset")));
    }

    #[test]
    fn two_file_systems_in_one_image_are_told_apart_by_name() {
        use Filesystem::{Erofs, Ext4, Squashfs};
        let file = image(8192, &[(0, &squashfs(4096)), (1024, &ext4(0, 8, None, 0))]);
        assert_eq!(detect(&file, 0), Err(ImageError::Ambiguous(Squashfs, Ext4)));
        assert_eq!(expect(&file, 0, Ext4), Ok(Image { filesystem: Ext4, size: 8192 }));
        assert_eq!(expect(&file, 0, Squashfs), Ok(Image { filesystem: Squashfs, size: 4096 }));
        assert!(matches!(expect(&file, 0, Erofs), Err(ImageError::Other(_))));
    }

    #[test]
    fn what_else_is_seen_is_named() {
        let seen = |at, bytes: &[u8]| match detect(&image(0x2_0000, &[(at, bytes)]), 0) {
            Err(ImageError::Other(seen)) => seen,
            other => panic!("{other:?}"),
        };
        assert_eq!(seen(0, b"XFSB"), "an XFS file system");
        assert_eq!(seen(0x1_0040, b"_BHRfS_M"), "a Btrfs file system");
        assert_eq!(seen(0, b"sqsh"), "a big-endian squashfs");
        assert_eq!(seen(0, b"hsqs"), "a squashfs of another version than 4.0");
        assert_eq!(seen(257, b"ustar"), "a tar archive");
        assert_eq!(seen(100, b"x"), "no mark of a file system");
        // Blocks of an impossible size are garbage with two right bytes.
        assert_eq!(seen(1024, &ext4(99, 1, None, 0)), "no mark of a file system");
        let error = ImageError::Other(seen(0, b"XFSB")).to_string();
        assert_eq!(error, "found an XFS file system, expected squashfs, erofs or ext4");
    }

    #[test]
    fn a_journal_to_replay_is_refused() {
        let file = image(8192, &[(1024, &ext4(0, 8, None, 4))]);
        assert_eq!(detect(&file, 0), Err(ImageError::Unclean));
    }

    #[test]
    fn the_file_must_be_regular_and_read_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::open(directory.path()).unwrap();
        assert_eq!(detect(&file, 0), Err(ImageError::NotRegular));
        assert_eq!(attach(file.as_fd(), 0, None).unwrap_err(), ImageError::NotRegular);
        let writable = image(4096, &[]);
        assert_eq!(attach(writable.as_fd(), 0, None).unwrap_err(), ImageError::NotReadOnly);
        let path = directory.path().join("image");
        std::fs::write(&path, [0; 4096]).unwrap();
        let named = open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        assert_eq!(attach(named.as_fd(), 0, None).unwrap_err(), ImageError::NotReadOnly);
    }
}
