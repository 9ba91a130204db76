//! JSON objects that are not lists: serde would accept `["on"]` for `{"mode": "on"}`.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// A `T` that was written with the names of its fields.
#[derive(Debug, Default)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Object<T>, D::Error> {
        from.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named<'a> {
        name: &'a str,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }

    #[test]
    fn lists_are_not_accepted_as_objects() {
        let parse = |text| serde_json::from_str::<Object<Named<'_>>>(text);
        let Object(named) = parse(r#"{"name": "a", "data": [1, 2]}"#).unwrap();
        assert_eq!((named.name, named.data.unwrap().get()), ("a", "[1, 2]"));
        let error = parse(r#"["a", [1, 2]]"#).unwrap_err().to_string();
        assert!(error.contains("expected an object"), "{error}");
        for wrong in ["[]", "3", "null", "{}", r#"{"name": "a", "x": 1}"#] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
