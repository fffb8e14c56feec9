//! File systems and block devices.

use super::families::labelled;
use super::{Reader, Reading, exists};
use rustix::fs::statvfs;
use std::collections::HashMap;
use std::io;

/// File systems that wait for another machine: asking for their space may never end.
const REMOTE: [&str; 14] = [
    "9p",
    "afs",
    "autofs",
    "ceph",
    "cifs",
    "coda",
    "fuse.glusterfs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb3",
];
/// Bytes of a sector in /proc/diskstats, whatever the device has.
const SECTOR_BYTES: f64 = 512.0;

/// A line of mountinfo.
#[derive(Debug, PartialEq)]
struct Mount {
    /// `major:minor`: the same file system mounted twice has the same.
    device_number: String,
    mountpoint: String,
    fstype: String,
    device: String,
}

impl Reader {
    pub(super) fn disk(&self) -> io::Result<Vec<Reading>> {
        let mut readings = Vec::new();
        // Mounts as the first process sees them, where it may be asked: this one may have a name space of its own.
        let mounts = self
            .text("proc/1/mountinfo")
            .or_else(|_| self.text("proc/self/mountinfo"))?;
        for mount in once_each(&mounts) {
            let path = self.path(mount.mountpoint.trim_start_matches('/'));
            // Vanished, hidden by another mount, or not ours to see: the others count.
            let Ok(space) = statvfs(&path) else { continue };
            file_system(&mount, &space, &mut readings);
        }
        if let Ok(stats) = self.text("proc/diskstats") {
            let is_partition =
                |name: &str| exists(&self.path(&format!("sys/class/block/{name}/partition")));
            block_devices(&stats, &is_partition, &mut readings);
        }
        Ok(readings)
    }
}

fn file_system(mount: &Mount, space: &rustix::fs::StatVfs, readings: &mut Vec<Reading>) {
    if space.f_blocks == 0 {
        return;
    }
    let mut push = |metric, value| {
        readings.push(Reading {
            metric,
            labels: vec![
                ("device", mount.device.clone()),
                ("fstype", mount.fstype.clone()),
                ("mountpoint", mount.mountpoint.clone()),
            ],
            value,
        });
    };
    let block = space.f_frsize as f64;
    let used = space.f_blocks.saturating_sub(space.f_bfree) as f64;
    let available = space.f_bavail as f64;
    push("filesystem_size_bytes", space.f_blocks as f64 * block);
    push("filesystem_free_bytes", space.f_bfree as f64 * block);
    push("filesystem_avail_bytes", available * block);
    // As df counts: what is kept for root is neither used nor available.
    if used + available > 0.0 {
        push("filesystem_used_ratio", used / (used + available));
    }
    push(
        "filesystem_readonly",
        f64::from(u8::from(
            space.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        )),
    );
    // Some file systems make inodes as they need them and say 0.
    if space.f_files > 0 {
        let files = space.f_files as f64;
        let free = space.f_ffree as f64;
        push("filesystem_files", files);
        push("filesystem_files_free", free);
        push(
            "filesystem_files_used_ratio",
            ((files - free) / files).clamp(0.0, 1.0),
        );
    }
}

/// Each file system once, where it is mounted highest, in the order of the mounts.
fn once_each(mountinfo: &str) -> Vec<Mount> {
    let mut best: HashMap<String, usize> = HashMap::new();
    let mut mounts: Vec<Mount> = Vec::new();
    // A later mount on the same point hides the ones before it.
    let all: Vec<Mount> = mountinfo.lines().filter_map(mount).collect();
    let visible: HashMap<String, usize> = all
        .iter()
        .enumerate()
        .map(|(at, mount)| (mount.mountpoint.clone(), at))
        .collect();
    for (at, mount) in all.into_iter().enumerate() {
        if visible.get(&mount.mountpoint) != Some(&at) || REMOTE.contains(&mount.fstype.as_str()) {
            continue;
        }
        match best.get(&mount.device_number) {
            Some(&at) if mounts[at].mountpoint.len() <= mount.mountpoint.len() => {}
            Some(&at) => mounts[at] = mount,
            None => {
                best.insert(mount.device_number.clone(), mounts.len());
                mounts.push(mount);
            }
        }
    }
    mounts
}

/// `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw`, see proc(5).
fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(2);
    let device_number = left.next()?.to_owned();
    let mountpoint = unescaped(left.nth(1)?);
    let mut right = right.split(' ');
    Some(Mount {
        device_number,
        mountpoint,
        fstype: right.next()?.to_owned(),
        device: unescaped(right.next()?),
    })
}

/// Space, tab, newline and backslash come as three octal digits.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *byte == b'\\');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Of /proc/diskstats: whole devices that were ever used.
fn block_devices(
    diskstats: &str,
    is_partition: &dyn Fn(&str) -> bool,
    readings: &mut Vec<Reading>,
) {
    const COLUMNS: [(usize, &str, f64); 7] = [
        (0, "disk_reads_completed_total", 1.0),
        (2, "disk_read_bytes_total", SECTOR_BYTES),
        (3, "disk_read_time_seconds_total", 1e-3),
        (4, "disk_writes_completed_total", 1.0),
        (6, "disk_written_bytes_total", SECTOR_BYTES),
        (7, "disk_write_time_seconds_total", 1e-3),
        (9, "disk_io_time_seconds_total", 1e-3),
    ];
    for line in diskstats.lines() {
        let mut words = line.split_ascii_whitespace().skip(2);
        let Some(device) = words.next() else { continue };
        let counts: Vec<f64> = words.map_while(|word| word.parse().ok()).collect();
        let memory = ["ram", "loop", "zram", "fd"];
        let unused = counts.iter().all(|count| *count == 0.0);
        if unused || memory.iter().any(|start| device.starts_with(start)) || is_partition(device) {
            continue;
        }
        for (column, metric, unit) in COLUMNS {
            if let Some(count) = counts.get(column) {
                readings.push(labelled(metric, "device", device, count * unit));
            }
        }
        if let Some(now) = counts.get(8) {
            readings.push(labelled("disk_io_now", "device", device, *now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:1 /srv /bind rw - ext4 /dev/sda1 rw
31 22 0:30 / /mnt/nfs rw - nfs4 server:/x rw
32 22 0:31 / /mnt/a\\040b rw - tmpfs tmpfs rw
broken line
";

    #[test]
    fn each_local_file_system_counts_once() {
        let mounts = once_each(MOUNTS);
        let points: Vec<&str> = mounts.iter().map(|m| &*m.mountpoint).collect();
        assert_eq!(points, ["/", "/mnt/a b"]);
        assert_eq!(mounts[0].device, "/dev/sda1");
        let bind_first =
            "1 0 8:1 / /deep/er rw - ext4 /dev/sda1 rw\n2 0 8:1 / /d rw - ext4 /dev/sda1 rw\n";
        assert_eq!(once_each(bind_first)[0].mountpoint, "/d");
    }

    #[test]
    fn devices_are_whole_and_in_use() {
        let stats = "   8 0 sda 10 0 4 2000 20 0 8 3000 1 5000 0 0\n   8 1 sda1 10 0 4 2000 20 0 8 3000 0 5000 0\n   7 0 loop0 1 0 1 1 1 1 1 1 1 1 1\n   8 16 sdb 0 0 0 0 0 0 0 0 0 0 0\n";
        let mut readings = Vec::new();
        block_devices(stats, &|name| name == "sda1", &mut readings);
        assert!(
            readings
                .iter()
                .all(|r| r.labels == [("device", "sda".to_owned())])
        );
        let value = |metric| readings.iter().find(|r| r.metric == metric).unwrap().value;
        assert_eq!(value("disk_read_bytes_total"), 2048.0);
        assert_eq!(value("disk_io_time_seconds_total"), 5.0);
        assert_eq!(value("disk_io_now"), 1.0);
    }
}
