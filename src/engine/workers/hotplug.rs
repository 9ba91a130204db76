//! Detection of added and removed graphics cards, from notifications of the kernel and after a
//! suspend of the machine. It accesses no card, so it does not wake cards in a low-power state.
//!
//! Only Linux sends notifications. Elsewhere adapters are listed again when a worker dies.

#[cfg(target_os = "linux")]
pub(crate) use linux::Hotplug;

#[cfg(not(target_os = "linux"))]
pub(crate) struct Hotplug;

#[cfg(not(target_os = "linux"))]
impl Hotplug {
    pub(crate) fn listen(_all: bool) -> Hotplug {
        Hotplug
    }

    pub(crate) async fn changed(&mut self) -> String {
        std::future::pending().await
    }

    pub(crate) fn was_suspended(&mut self) -> bool {
        false
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use rustix::io::Errno;
    use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
    use rustix::net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with,
    };
    use rustix::time::{ClockId, clock_gettime};
    use std::os::fd::OwnedFd;
    use std::time::Duration;
    use tokio::sync::mpsc;

    /// The group of the kernel's messages; those of udev are in another one (netlink(7), libudev).
    const KERNEL: u32 = 1;
    /// More than the kernel's limit of 2 KiB (`UEVENT_BUFFER_SIZE` in kobject.h).
    const MESSAGE_BYTES_MAX: usize = 8192;
    /// Capacity of the channel. One would be enough, since each change leads to a complete listing.
    const CHANGES_MAX: usize = 16;
    /// Minimum length of a suspend: the clocks are not read at the same instant.
    const SUSPEND_MIN: Duration = Duration::from_secs(1);

    /// Listener for added and removed cards, and for suspends.
    pub(crate) struct Hotplug {
        changes: mpsc::Receiver<String>,
        /// Total time that the machine was suspended, at the last check.
        suspended: Duration,
    }

    impl Hotplug {
        /// With `all`, for tests, every message of the kernel counts as one about a card.
        pub(crate) fn listen(all: bool) -> Hotplug {
            let (sender, changes) = mpsc::channel(CHANGES_MAX);
            // The thread blocks on the socket until the end of the process.
            let listener = std::thread::Builder::new().name("hotplug".to_owned());
            let listening = open().map_err(std::io::Error::from).and_then(|socket| {
                listener.spawn(move || follow(&socket, all, &sender)).map(|_| ())
            });
            if let Err(error) = listening {
                tracing::debug!("failed to listen for device notifications: {error}");
            }
            Hotplug { changes, suspended: suspended() }
        }

        /// Waits until a card may have been added or removed, and returns the reason.
        pub(crate) async fn changed(&mut self) -> String {
            match self.changes.recv().await {
                Some(why) => why,
                None => std::future::pending().await,
            }
        }

        /// True if the machine was suspended since the last call: cards may have been removed, and
        /// drivers may have lost them.
        pub(crate) fn was_suspended(&mut self) -> bool {
            let before = std::mem::replace(&mut self.suspended, suspended());
            is_suspend(before, self.suspended)
        }
    }

    /// True if the machine was suspended between two readings of the total time.
    fn is_suspend(before: Duration, after: Duration) -> bool {
        after.saturating_sub(before) > SUSPEND_MIN
    }

    fn open() -> Result<OwnedFd, Errno> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
        Ok(socket)
    }

    /// Sends every relevant message until the receiver is dropped.
    fn follow(socket: &OwnedFd, all: bool, sender: &mpsc::Sender<String>) {
        loop {
            let why = match receive(socket) {
                Ok(Some(message)) if all || is_about_a_card(&message) => title(&message),
                Ok(_) | Err(Errno::INTR) => continue,
                // The receive buffer overflowed (netlink(7)); a listing replaces the messages.
                Err(Errno::NOBUFS) => "messages of the kernel were lost".to_owned(),
                Err(error) => {
                    return tracing::warn!("device notifications stopped: {error}");
                }
            };
            // A full channel already causes a listing.
            if matches!(sender.try_send(why), Err(mpsc::error::TrySendError::Closed(_))) {
                return;
            }
        }
    }

    /// Receives one message; `None` if it is not from the kernel.
    fn receive(socket: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let (length, _, sender) = recvfrom(socket, &mut buffer[..], RecvFlags::empty())?;
        let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
        let message = buffer.get(..length).unwrap_or_default();
        // The kernel has port 0 (netlink(7)); a process may send to this socket too.
        Ok(sender.filter(|sender| sender.pid() == 0).map(|_| message.to_vec()))
    }

    /// True if a message is about a display controller that was added or removed, or bound to or
    /// unbound from a driver. A connected monitor is a `change` event, which is ignored.
    fn is_about_a_card(message: &[u8]) -> bool {
        let value = |name: &[u8]| {
            let mut fields = message.split(|byte| *byte == 0);
            fields.find_map(|field| field.strip_prefix(name)?.strip_prefix(b"="))
        };
        let matters = matches!(
            value(b"ACTION"),
            Some(b"add" | b"remove" | b"bind" | b"unbind" | b"online" | b"offline")
        );
        // PCI class 03, "display controller", without leading zero. Drivers without DRM send only
        // these events.
        let pci = value(b"SUBSYSTEM") == Some(b"pci")
            && value(b"PCI_CLASS").is_some_and(|class| class.len() == 5 && class.starts_with(b"3"));
        let drm = value(b"SUBSYSTEM") == Some(b"drm") && value(b"DEVTYPE") == Some(b"drm_minor");
        matters && (pci || drm)
    }

    /// `action@path`.
    fn title(message: &[u8]) -> String {
        let title = message.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(title).into_owned()
    }

    /// The total time that the machine was suspended since its start (clock_gettime(2)).
    fn suspended() -> Duration {
        let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
        // CLOCK_MONOTONIC stops while the machine is suspended, CLOCK_BOOTTIME does not.
        read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn message(fields: &[&str]) -> Vec<u8> {
            fields.join("\0").into_bytes()
        }

        #[test]
        fn added_and_removed_cards_are_recognised() {
            let card = "DEVPATH=/devices/pci0000:00/0000:00:01.1/0000:01:00.0/drm/card1";
            let drm = |action: &str, kind: &str| {
                message(&["x@y", action, card, "SUBSYSTEM=drm", kind, "SEQNUM=4711"])
            };
            assert!(is_about_a_card(&drm("ACTION=add", "DEVTYPE=drm_minor")));
            assert!(is_about_a_card(&drm("ACTION=remove", "DEVTYPE=drm_minor")));
            // A monitor, and a connector of a card.
            assert!(!is_about_a_card(&drm("ACTION=change", "DEVTYPE=drm_minor")));
            assert!(!is_about_a_card(&drm("ACTION=add", "DEVTYPE=drm_connector")));
            let pci = |action: &str, class: &str| {
                message(&[
                    "x@y",
                    action,
                    "SUBSYSTEM=pci",
                    "DRIVER=nvidia",
                    class,
                    "PCI_ID=10DE:2330",
                ])
            };
            for class in ["PCI_CLASS=30000", "PCI_CLASS=30200"] {
                assert!(is_about_a_card(&pci("ACTION=unbind", class)));
                assert!(is_about_a_card(&pci("ACTION=add", class)));
            }
            // A network card, and a USB controller with a class of six digits.
            assert!(!is_about_a_card(&pci("ACTION=bind", "PCI_CLASS=20000")));
            assert!(!is_about_a_card(&pci("ACTION=bind", "PCI_CLASS=C0330")));
            assert!(!is_about_a_card(b""));
            assert!(!is_about_a_card(b"ACTION=add\0SUBSYSTEM=pci\0PCI_CLASS="));
        }

        #[test]
        fn title_may_contain_invalid_utf8() {
            assert_eq!(title(b"add@/devices/\xff\0ACTION=add"), "add@/devices/\u{fffd}");
            assert_eq!(title(b""), "");
        }

        #[test]
        fn suspend_is_longer_than_the_delay_between_clock_readings() {
            let seconds = Duration::from_secs;
            assert!(is_suspend(seconds(5), seconds(8)));
            assert!(!is_suspend(seconds(5), seconds(5) + Duration::from_millis(20)));
            assert!(!is_suspend(seconds(8), seconds(5)));
            let (_, changes) = mpsc::channel(1);
            assert!(!Hotplug { changes, suspended: suspended() }.was_suspended());
        }
    }
}
