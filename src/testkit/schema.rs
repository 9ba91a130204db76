//! Validation by JSON Schema, as far as the served description uses it; an unknown keyword is an
//! error. It is stricter than the standard: fields that are not described are errors too, since a
//! description without them is out of date.

use serde_json::Value;

type Checked = Result<(), String>;

/// Returns the target of a `$ref`, or the value itself.
pub fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(path) = value["$ref"].as_str() else { return value };
    let found = document.pointer(path.trim_start_matches('#'));
    found.unwrap_or_else(|| panic!("{path} leads nowhere"))
}

/// # Errors
/// A description of the difference between the value and its schema.
pub fn check(document: &Value, schema: &Value, value: &Value) -> Checked {
    let schema = resolve(document, schema);
    for (keyword, wanted) in schema.as_object().expect("a schema is an object") {
        let fits = match keyword.as_str() {
            "type" => is_of(wanted, value),
            "enum" => wanted.as_array().is_some_and(|all| all.contains(value)),
            "const" => wanted == value,
            "minimum" => value.as_f64().is_none_or(|value| value >= number(wanted)),
            "maximum" => value.as_f64().is_none_or(|value| value <= number(wanted)),
            "minLength" => value.as_str().is_none_or(|text| text.len() as f64 >= number(wanted)),
            "maxProperties" => {
                value.as_object().is_none_or(|fields| fields.len() as f64 <= number(wanted))
            }
            "required" => wanted.as_array().into_iter().flatten().all(|name| has(value, name)),
            "anyOf" => any_of(document, wanted, value)?,
            "items" => {
                let items = value.as_array().into_iter().flatten();
                items.clone().try_for_each(|item| check(document, wanted, item))?;
                true
            }
            "properties" | "additionalProperties" => {
                fields(document, schema, value)?;
                true
            }
            "description" | "format" => true,
            unknown => return Err(format!("the keyword '{unknown}' is not known here")),
        };
        if !fits {
            return Err(format!("{value} is not {keyword} {wanted}"));
        }
    }
    Ok(())
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn has(value: &Value, name: &Value) -> bool {
    value.as_object().is_none_or(|fields| fields.contains_key(name.as_str().expect("a name")))
}

/// Returns true if the value has one of the wanted types.
fn is_of(wanted: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str().expect("a type") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        unknown => panic!("unknown type '{unknown}'"),
    };
    wanted.as_array().map_or_else(|| is(wanted), |names| names.iter().any(is))
}

fn any_of(document: &Value, wanted: &Value, value: &Value) -> Result<bool, String> {
    let schemas = wanted.as_array().expect("a list");
    let wrong: Vec<_> =
        schemas.iter().filter_map(|schema| check(document, schema, value).err()).collect();
    if wrong.len() < schemas.len() { Ok(true) } else { Err(wrong.join("; and ")) }
}

fn fields(document: &Value, schema: &Value, value: &Value) -> Checked {
    for (name, field) in value.as_object().into_iter().flatten() {
        let own = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        let own = own.filter(|own| own.is_object());
        let own = own.ok_or_else(|| format!("the field '{name}' is not described"))?;
        check(document, own, field).map_err(|wrong| format!("{name}: {wrong}"))?;
    }
    Ok(())
}
