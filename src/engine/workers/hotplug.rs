//! When graphics cards may have come or gone: the kernel says so, or the machine has slept.
//! Listening touches no card, so that those that sleep go on sleeping.
//!
//! Only Linux tells without being asked. Elsewhere adapters are listed again when a worker dies.

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

    pub(crate) fn has_slept(&mut self) -> bool {
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

    /// The kernel's own messages; those of udev are another group (netlink(7), libudev).
    const KERNEL: u32 = 1;
    /// Longer than any: the kernel's limit is 2 KiB (`UEVENT_BUFFER_SIZE` in kobject.h).
    const MESSAGE_BYTES_MAX: usize = 8192;
    /// One would do: each leads to a listing of all.
    const TOLD_MAX: usize = 16;
    /// Clocks are not read at the same instant; a sleep takes longer.
    const SLEEP_MIN: Duration = Duration::from_secs(1);

    /// Listens for cards that come and go.
    pub(crate) struct Hotplug {
        told: mpsc::Receiver<String>,
        /// How long the machine had slept when it was last asked.
        slept: Duration,
    }

    impl Hotplug {
        /// With `all`, for tests, whatever the kernel says may be about a card.
        pub(crate) fn listen(all: bool) -> Hotplug {
            let (tell, told) = mpsc::channel(TOLD_MAX);
            // A thread that sleeps until the kernel speaks, until the end of the process.
            let listener = std::thread::Builder::new().name("hotplug".to_owned());
            let listening = open()
                .map_err(std::io::Error::from)
                .and_then(|socket| listener.spawn(move || follow(&socket, all, &tell)).map(|_| ()));
            if let Err(error) = listening {
                tracing::debug!("the kernel does not tell of cards that come and go: {error}");
            }
            Hotplug { told, slept: slept() }
        }

        /// Waits until a card may have come or gone, and tells why that is thought.
        pub(crate) async fn changed(&mut self) -> String {
            match self.told.recv().await {
                Some(why) => why,
                None => std::future::pending().await,
            }
        }

        /// Whether the machine has slept since this was last asked: cards may have been pulled
        /// out, and drivers may have lost them.
        pub(crate) fn has_slept(&mut self) -> bool {
            let before = std::mem::replace(&mut self.slept, slept());
            is_a_sleep(before, self.slept)
        }
    }

    /// Whether the machine slept between two readings of how long it had slept.
    fn is_a_sleep(before: Duration, after: Duration) -> bool {
        after.saturating_sub(before) > SLEEP_MIN
    }

    fn open() -> Result<OwnedFd, Errno> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
        Ok(socket)
    }

    /// Tells of every message that matters, as long as somebody listens.
    fn follow(socket: &OwnedFd, all: bool, tell: &mpsc::Sender<String>) {
        loop {
            let why = match receive(socket) {
                Ok(Some(message)) if all || is_about_a_card(&message) => title(&message),
                Ok(_) | Err(Errno::INTR) => continue,
                Err(Errno::NOBUFS) => "messages of the kernel were lost".to_owned(),
                Err(error) => {
                    return tracing::warn!("the kernel tells of cards no more: {error}");
                }
            };
            if matches!(tell.try_send(why), Err(mpsc::error::TrySendError::Closed(_))) {
                return;
            }
        }
    }

    /// One message; none if it is not the kernel's own.
    fn receive(socket: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let (length, _, sender) = recvfrom(socket, &mut buffer[..], RecvFlags::empty())?;
        let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
        let message = buffer.get(..length).unwrap_or_default();
        Ok(sender.filter(|sender| sender.pid() == 0).map(|_| message.to_vec()))
    }

    /// Whether a message is about a display controller that was added, removed, or given to or
    /// taken from a driver. A monitor that is plugged in is a `change`, and none.
    fn is_about_a_card(message: &[u8]) -> bool {
        let value = |name: &[u8]| {
            let mut fields = message.split(|byte| *byte == 0);
            fields.find_map(|field| field.strip_prefix(name)?.strip_prefix(b"="))
        };
        let matters = matches!(
            value(b"ACTION"),
            Some(b"add" | b"remove" | b"bind" | b"unbind" | b"online" | b"offline")
        );
        // PCI class 03, "display controller", without leading zero; drivers without DRM have only
        // that.
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

    /// How long the machine has slept since it was turned on (clock_gettime(2)).
    fn slept() -> Duration {
        let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
        read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn message(fields: &[&str]) -> Vec<u8> {
            fields.join("\0").into_bytes()
        }

        #[test]
        fn cards_that_come_and_go_are_told_from_all_else() {
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
            // A network card, and a USB controller whose class has six digits.
            assert!(!is_about_a_card(&pci("ACTION=bind", "PCI_CLASS=20000")));
            assert!(!is_about_a_card(&pci("ACTION=bind", "PCI_CLASS=C0330")));
            assert!(!is_about_a_card(b""));
            assert!(!is_about_a_card(b"ACTION=add\0SUBSYSTEM=pci\0PCI_CLASS="));
        }

        #[test]
        fn what_is_not_utf8_has_a_title() {
            assert_eq!(title(b"add@/devices/\xff\0ACTION=add"), "add@/devices/\u{fffd}");
            assert_eq!(title(b""), "");
        }

        #[test]
        fn a_sleep_is_told_from_clocks_that_are_read_one_after_the_other() {
            let seconds = Duration::from_secs;
            assert!(is_a_sleep(seconds(5), seconds(8)));
            assert!(!is_a_sleep(seconds(5), seconds(5) + Duration::from_millis(20)));
            assert!(!is_a_sleep(seconds(8), seconds(5)));
            let (_, told) = mpsc::channel(1);
            assert!(!Hotplug { told, slept: slept() }.has_slept());
        }
    }
}
