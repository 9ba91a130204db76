//! Reads the sensors of cards in the background, since a driver may be slow to answer.

use adapter::sensors::{Reading, SensorCard};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::watch;
use types::clock;

/// Time between two readings of all cards.
const INTERVAL: Duration = Duration::from_secs(2);

/// The last reading of each adapter, by id.
pub(crate) type Readings = BTreeMap<String, Reading>;

/// Reads the sensors of the cards given to [`Sensors::watch`].
pub(crate) struct Sensors {
    /// Adapters by id, each with its card's PCI address.
    cards: watch::Sender<Vec<(String, String)>>,
    readings: watch::Receiver<Readings>,
}

impl Sensors {
    /// Starts the task, which ends with the engine. It is idle until there is a card to read.
    pub(crate) fn start() -> Sensors {
        let (cards, wanted) = watch::channel(Vec::new());
        let (sender, readings) = watch::channel(Readings::new());
        tokio::spawn(follow(wanted, sender));
        Sensors { cards, readings }
    }

    /// Replaces the cards to read.
    pub(crate) fn watch(&self, cards: Vec<(String, String)>) {
        self.cards.send_replace(cards);
    }

    pub(crate) fn of(&self, adapter: &str) -> Option<Reading> {
        self.readings.borrow().get(adapter).cloned()
    }
}

async fn follow(
    mut wanted: watch::Receiver<Vec<(String, String)>>,
    sender: watch::Sender<Readings>,
) {
    let begin = clock::now();
    let mut cards: HashMap<String, SensorCard> = HashMap::new();
    loop {
        let pairs = wanted.borrow_and_update().clone();
        if pairs.is_empty() {
            match wanted.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        }
        cards.retain(|id, _| pairs.iter().any(|(wanted, _)| wanted == id));
        for (id, pci) in pairs {
            if let (false, Some(card)) = (cards.contains_key(&id), SensorCard::at(&pci)) {
                cards.insert(id, card);
            }
        }
        let now = clock::now().duration_since(begin);
        let read = tokio::task::spawn_blocking(move || {
            let readings = read(&mut cards, now);
            (cards, readings)
        });
        let Ok((read, readings)) = read.await else { return };
        cards = read;
        if sender.send(readings).is_err() {
            return;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn read(cards: &mut HashMap<String, SensorCard>, now: Duration) -> Readings {
    let reading = |(id, card): (&String, &mut SensorCard)| Some((id.clone(), card.read(now)?));
    cards.iter_mut().filter_map(reading).collect()
}
