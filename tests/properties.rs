mod support;

#[test]
fn model_compiles() {
    let _ = support::model::NaiveModel::new(std::sync::Arc::new(broadside::SystemClock));
}
