//! The kinds of models that a worker can load, by their names in `model.toml`.

use crate::context::LoadContext;
use crate::{digits, onnx};
use model::count::{self, Count};
use model::identity::{self, Identity};
use model::signature::{Signature, TensorSpec};
use model::{Model, ModelError};
use std::collections::BTreeMap;
use std::fmt;

type Loader = Box<dyn Fn(&LoadContext<'_>) -> Result<Box<dyn Model>, ModelError> + Send + Sync>;

/// Loaders by kind.
pub struct Registry {
    loaders: BTreeMap<String, Loader>,
}

impl Registry {
    /// The built-in kinds: `identity`, `count`, `digits` and `onnx`.
    pub fn builtin() -> Registry {
        let mut registry = Registry { loaders: BTreeMap::new() };
        registry.register(identity::KIND, |context| {
            Ok(Box::new(Identity::new(context.info.signature.clone())?))
        });
        registry.register(count::KIND, |_| Ok(Box::new(Count::default())));
        registry.register(digits::KIND, |context| Ok(Box::new(digits::load(context)?)));
        registry.register(onnx::KIND, |context| Ok(Box::new(onnx::load(context)?)));
        registry
    }

    /// Adds a custom kind, which replaces an earlier one of the same name.
    pub fn register<L>(&mut self, kind: &str, loader: L) -> &mut Registry
    where
        L: Fn(&LoadContext<'_>) -> Result<Box<dyn Model>, ModelError> + Send + Sync + 'static,
    {
        self.loaders.insert(kind.to_owned(), Box::new(loader));
        self
    }

    /// Names of all kinds, sorted.
    pub fn kinds(&self) -> Vec<String> {
        self.loaders.keys().cloned().collect()
    }

    /// Loads a model and checks that its signature matches that of its `model.toml`.
    ///
    /// # Errors
    /// [`ModelError::Broken`] if the kind is unknown, the files are invalid or the signatures
    /// differ; [`ModelError::Device`] if the device failed.
    pub fn load(&self, context: &LoadContext<'_>) -> Result<Box<dyn Model>, ModelError> {
        let kind = &context.info.kind;
        let unknown = || {
            let known = self.kinds().join(", ");
            ModelError::Broken(format!("kind '{kind}' is unknown; use {known}"))
        };
        let mut model = self.loaders.get(kind).ok_or_else(unknown)?(context)?;
        agree(&context.info.signature, model.signature())?;
        let decoupled = model.generator().is_some();
        if decoupled != context.info.decoupled {
            let text = format!("model.toml: decoupled: the kind '{kind}' needs {decoupled}");
            return Err(ModelError::Broken(text));
        }
        Ok(model)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("kinds", &self.kinds()).finish()
    }
}

fn agree(written: &Signature, own: &Signature) -> Result<(), ModelError> {
    agree_on("inputs", &written.inputs, &own.inputs)?;
    agree_on("outputs", &written.outputs, &own.outputs)
}

fn agree_on(field: &str, written: &[TensorSpec], own: &[TensorSpec]) -> Result<(), ModelError> {
    if written == own {
        return Ok(());
    }
    let (written, own) = (list(written), list(own));
    Err(ModelError::Broken(format!(
        "model.toml states the {field} {written}, but the model has {own}"
    )))
}

fn list(specs: &[TensorSpec]) -> String {
    let one = |spec: &TensorSpec| {
        let datatypes: Vec<_> = spec.datatypes.iter().map(|datatype| datatype.as_str()).collect();
        format!("{} {} {:?}", spec.name, datatypes.join("|"), spec.shape)
    };
    specs.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use model::info::ModelInfo;
    use model::repository::{Repository, ScanResult};
    use testkit::Folder;
    use types::tensor::Datatype;

    fn echo_info(folder: &Folder, kind: &str, registry: &Registry) -> ModelInfo {
        let tensor = "name = \"x\"\ndatatype = \"FP32\"\nshape = [2]\n";
        let text = format!("kind = \"{kind}\"\n[[inputs]]\n{tensor}[[outputs]]\n{tensor}");
        folder.write("m/model.toml", text.as_bytes());
        folder.make_dir("m/1");
        match Repository::open(folder.path()).unwrap().scan(&registry.kinds()).remove(0) {
            ScanResult::Good(info) => info,
            ScanResult::Bad(bad) => panic!("{bad:?}"),
        }
    }

    fn load(registry: &Registry, info: &ModelInfo) -> Result<Box<dyn Model>, ModelError> {
        let files = info.files().unwrap();
        registry.load(&LoadContext { info, files: &files, device: &Device::flex() })
    }

    #[test]
    fn custom_kinds_are_loaded() {
        let mut registry = Registry::builtin();
        registry.register("mine", |context| {
            Ok(Box::new(Identity::new(context.info.signature.clone())?))
        });
        assert_eq!(registry.kinds(), ["count", "digits", "identity", "mine", "onnx"]);
        let folder = Folder::new();
        let mut info = echo_info(&folder, "mine", &registry);
        assert_eq!(load(&registry, &info).unwrap().signature(), &info.signature);
        info.kind = "gone".into();
        let error = load(&registry, &info).err().unwrap().to_string();
        assert_eq!(
            error,
            "broken model: kind 'gone' is unknown; use count, digits, identity, mine, onnx"
        );
    }

    #[test]
    fn model_must_match_its_manifest() {
        let mut registry = Registry::builtin();
        registry.register("mine", |context| {
            let mut signature = context.info.signature.clone();
            for spec in signature.inputs.iter_mut().chain(&mut signature.outputs) {
                spec.datatypes = vec![Datatype::Fp16];
            }
            Ok(Box::new(Identity::new(signature)?))
        });
        let folder = Folder::new();
        let info = echo_info(&folder, "mine", &registry);
        let error = load(&registry, &info).err().unwrap();
        let words = "model.toml states the inputs x FP32 [2], but the model has x FP16 [2]";
        assert_eq!(error, ModelError::Broken(words.into()));
    }
}
