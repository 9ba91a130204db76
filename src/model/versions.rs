//! The selection of the versions of a model that are served.

use crate::files::Detail;

/// The version folders that are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    /// The largest number.
    Latest,
    /// This many of the largest numbers.
    Newest(usize),
    All,
    These(Vec<u64>),
}

impl Versions {
    /// The served versions among the existing ones, ascending.
    pub(crate) fn of(&self, mut numbers: Vec<u64>) -> Vec<u64> {
        numbers.sort_unstable();
        let count = match self {
            Versions::These(numbers) => return numbers.clone(),
            Versions::All => numbers.len(),
            Versions::Latest => 1,
            Versions::Newest(count) => *count,
        };
        numbers.split_off(numbers.len().saturating_sub(count))
    }

    /// The field `versions` of `model.toml`.
    ///
    /// # Errors
    /// If the value is invalid; the error lists the valid ones.
    pub(crate) fn of_toml(written: Option<toml::Value>) -> Result<Versions, Detail> {
        let wrong =
            "versions: must be \"latest\", \"all\" or a list of version numbers such as [1, 2]";
        let numbers = match written {
            None => return Ok(Versions::Latest),
            Some(toml::Value::String(word)) if word == "latest" => return Ok(Versions::Latest),
            Some(toml::Value::String(word)) if word == "all" => return Ok(Versions::All),
            Some(toml::Value::Array(numbers)) if !numbers.is_empty() => numbers,
            Some(_) => return Err(wrong.into()),
        };
        let number = |value: &toml::Value| {
            let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
            number.filter(|number| *number > 0).ok_or(wrong)
        };
        let mut numbers = numbers.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        numbers.sort_unstable();
        numbers.dedup();
        Ok(Versions::These(numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_versions_have_the_largest_numbers() {
        let there = || vec![10, 2, 1];
        assert_eq!(Versions::Latest.of(there()), [10]);
        assert_eq!(Versions::Newest(2).of(there()), [2, 10]);
        assert_eq!(Versions::Newest(9).of(there()), [1, 2, 10]);
        assert_eq!(Versions::All.of(there()), [1, 2, 10]);
        assert_eq!(Versions::These(vec![3]).of(there()), [3]);
        assert_eq!(Versions::Latest.of(vec![]), [0u64; 0]);
    }
}
