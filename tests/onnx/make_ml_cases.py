"""Makes the exports of classical machine learning in tests/data/onnx_cases.

Needs numpy, scikit-learn, skl2onnx, lightgbm, onnxmltools and onnxruntime. Each folder gets
model.onnx, in0.npz and out0.npz as ONNX Runtime answers; own.tsv lists the folders. The output
of ZipMap is stored as the matrix of its numbers. Run: python tests/onnx/make_ml_cases.py
"""

import pathlib
import warnings

import numpy as np
import onnx
import onnxruntime
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, OneHotEncoder, OrdinalEncoder
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

FOLDER = pathlib.Path(__file__).parent.parent / "data" / "onnx_cases"
HEADER = "name\treported\tsituation\tverdict before\trtol\tatol"
SEED = 7

random = np.random.default_rng(SEED)
X = random.normal(size=(200, 4)).astype(np.float32)
TWO = (X[:, 0] + X[:, 1] ** 2 > 0.7).astype(np.int64)
THREE = np.digitize(X[:, 0] - X[:, 2], [-0.7, 0.7]).astype(np.int64)
NUMBER = (2 * X[:, 0] - X[:, 1] * X[:, 2]).astype(np.float32)
NAMES = np.array(["ant", "bee", "cat"])[THREE]
FLOATS = [("x", FloatTensorType([None, 4]))]
ROWS = X[:7]
ZIP = {"zipmap": True}
PLAIN = {"zipmap": False}

cases = []


def case(name, model, situation, inputs, options=None, types=None, opset=None):
    """Exports a fitted model, or uses a graph as it is, and stores the answers of ONNX Runtime."""
    if not isinstance(model, onnx.ModelProto):
        # A pipeline's options are those of its last step.
        last = model.steps[-1][1] if hasattr(model, "steps") else model
        options = {id(last): options} if options else None
        model = to_onnx(
            model, initial_types=types or FLOATS, options=options,
            target_opset=opset or {"": 17, "ai.onnx.ml": 3},
        )
    model.producer_version = ""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    outputs = {}
    for port, value in zip(session.get_outputs(), session.run(None, inputs)):
        if isinstance(value, list):
            value = np.array([list(row.values()) for row in value], np.float32)
        if value.dtype == object:
            value = value.astype("U")
        outputs[port.name] = value
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    stored = {key: value.astype("U") if value.dtype == object else value
              for key, value in inputs.items()}
    np.savez_compressed(folder / "in0.npz", **stored)
    np.savez_compressed(folder / "out0.npz", **outputs)
    cases.append(f"{name}\tsklearn-onnx family\t{situation}\tfail\t0.001\t0.0001")


def forests():
    forest = RandomForestClassifier(8, max_depth=5, random_state=SEED)
    case("ml_forest_zipmap", forest.fit(X, THREE), "random forest, ZipMap as it is exported by default", {"x": ROWS}, ZIP)
    case("ml_forest_names", RandomForestClassifier(5, max_depth=4, random_state=SEED).fit(X, NAMES), "random forest with class names, ZipMap", {"x": ROWS}, ZIP)
    case("ml_forest_plain", forest.fit(X, THREE), "random forest, ZipMap off", {"x": ROWS}, PLAIN)
    case("ml_forest_two", RandomForestClassifier(8, max_depth=5, random_state=SEED).fit(X, TWO), "random forest of two classes", {"x": ROWS}, PLAIN)
    boost = GradientBoostingClassifier(n_estimators=6, max_depth=3, random_state=SEED)
    case("ml_boosting", boost.fit(X, TWO), "gradient boosting of two classes", {"x": ROWS}, ZIP)
    case("ml_boosting_three", boost.fit(X, THREE), "gradient boosting of three classes", {"x": ROWS}, PLAIN)
    case("ml_boosting_number", GradientBoostingRegressor(n_estimators=6, random_state=SEED).fit(X, NUMBER), "gradient boosting regressor", {"x": ROWS})
    case("ml_isolation", IsolationForest(n_estimators=6, max_samples=32, random_state=SEED).fit(X), "isolation forest", {"x": ROWS})


def linear():
    case("ml_logistic", make_pipeline(StandardScaler(), LogisticRegression()).fit(X, THREE), "scaler and logistic regression, ZipMap", {"x": ROWS}, ZIP)
    case("ml_logistic_two", LogisticRegression().fit(X, TWO), "logistic regression of two classes", {"x": ROWS}, PLAIN)
    case("ml_svc", SVC(probability=True, random_state=SEED).fit(X[:80], THREE[:80]), "SVC with probabilities", {"x": ROWS}, PLAIN)
    case("ml_svc_poly", SVC(kernel="poly", degree=2).fit(X[:80], THREE[:80]), "SVC without probabilities, polynomial kernel", {"x": ROWS}, PLAIN)
    case("ml_svr", SVR().fit(X[:80], NUMBER[:80]), "SVR", {"x": ROWS})
    case("ml_pca", make_pipeline(MinMaxScaler(), PCA(2)).fit(X), "scaler and PCA", {"x": ROWS})
    case("ml_bayes", GaussianNB().fit(X, NAMES), "naive Bayes with class names", {"x": ROWS}, PLAIN)
    case("ml_neighbours", KNeighborsClassifier(3).fit(X[:60], THREE[:60]), "k-nearest neighbours", {"x": ROWS}, PLAIN)
    case("ml_means", KMeans(3, n_init=1, random_state=SEED).fit(X), "k-means", {"x": ROWS})
    case("ml_normaliser", Normalizer("l2").fit(X), "rows of length one", {"x": ROWS})


def categories():
    words = np.array([["a", "x"], ["b", "y"], ["c", "x"], ["a", "z"]], dtype=object)
    text = [("x", StringTensorType([None, 2]))]
    case("ml_ordinal", OrdinalEncoder().fit(words), "ordinal encoder of words", {"x": words}, types=text)
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    seen = np.array([["b", "q"], ["a", "x"]], dtype=object)
    case("ml_one_hot", one_hot.fit(words), "one-hot encoder of words, one of them unknown", {"x": seen}, types=text)
    numbers = np.array([[1], [3], [5]], dtype=np.int64)
    case("ml_one_hot_numbers", OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(numbers), "one-hot encoder of integers", {"x": np.array([[3], [4]], np.int64)}, types=[("x", Int64TensorType([None, 1]))])
    holes = X[:6].copy()
    holes[0, 1] = holes[3, 2] = np.nan
    case("ml_imputer", SimpleImputer().fit(X), "missing values filled up", {"x": holes})
    columns = ColumnTransformer([("one", OneHotEncoder(handle_unknown="ignore"), [0]), ("two", OrdinalEncoder(), [1])])
    case("ml_columns", make_pipeline(columns, LogisticRegression()).fit(words, [0, 1, 0, 1]), "columns of words into a logistic regression", {"x": words}, PLAIN, types=text)
    texts = np.array(["the cat sat on the mat", "a dog ate the cat", "Dogs and cats"], dtype=object)
    vectoriser = TfidfVectorizer(ngram_range=(1, 2)).fit(texts)
    case("ml_tf_idf", vectoriser, "texts by their words and pairs of words", {"x": np.array([["the cat and a dog"], ["no such word"]], dtype=object)}, types=[("x", StringTensorType([None, 1]))], options={"locale": "C"})


def light():
    import lightgbm
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType as Floats

    holes = X[:8].copy()
    holes[1, 0] = holes[4, 3] = np.nan
    trained = X.copy()
    trained[::9, 0] = np.nan
    types = [("x", Floats([None, 4]))]
    options = {"n_estimators": 6, "num_leaves": 6, "random_state": SEED, "verbose": -1, "deterministic": True, "num_threads": 1}
    for name, target, situation, zipmap in [
        ("ml_light_two", TWO, "LightGBM classifier of two classes, missing values", True),
        ("ml_light_three", THREE, "LightGBM classifier of three classes, ZipMap off", False),
    ]:
        model = lightgbm.LGBMClassifier(**options).fit(trained, target)
        graph = convert_lightgbm(model, initial_types=types, target_opset=15, zipmap=zipmap)
        case(name, graph, situation, {"x": holes})
    model = lightgbm.LGBMRegressor(**options).fit(trained, NUMBER)
    graph = convert_lightgbm(model, initial_types=types, target_opset=15)
    case("ml_light_number", graph, "LightGBM regressor, missing values", {"x": holes})


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    onnxruntime.set_default_logger_severity(3)
    for family in [forests, linear, categories, light]:
        family()
    (FOLDER / "own.tsv").write_text("\n".join([HEADER, *cases]) + "\n")
    print(f"{len(cases)} cases in {FOLDER}")
