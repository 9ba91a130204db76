//! Recurrent networks: RNN, GRU, LSTM.

use super::Table;

pub(super) const TABLE: Table = &[];
