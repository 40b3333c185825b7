for (const chooser of document.querySelectorAll(".chooser")) {
  const all = JSON.parse(chooser.dataset.thresholds), select = chooser.querySelector("select");
  const range = chooser.querySelector("input"), [, outcome] = chooser.querySelectorAll("p");
  const percent = value => (100 * value).toFixed(1) + " %";
  const show = () => {
    const { threshold, precision, recall, predicted } = all[select.value], i = +range.value;
    chooser.querySelector("output").textContent = threshold[i].toFixed(3);
    outcome.textContent = predicted[i] > 0
      ? `precision ${percent(precision[i])}, recall ${percent(recall[i])}; ${percent(predicted[i])} of all ${chooser.dataset.what} are called so`
      : `none of the ${chooser.dataset.what} are called so`;
  };
  const start = () => {
    const { threshold } = all[select.value];
    range.max = threshold.length - 1;
    range.value = threshold.indexOf(0.5);
    show();
  };
  select.addEventListener("change", start);
  range.addEventListener("input", show);
  start();
}
