// Opens a report: all its data is in the page.

async function open() {
  hold(JSON.parse(document.getElementById("data").textContent), await unpacked("figures"));
  state = begin();
  if (!data.start.chosen) chooseCell();
  drawWords();
  performance.mark("readable");
  const library = document.createElement("script");
  library.textContent = new TextDecoder().decode(await unpacked("plotly"));
  document.head.append(library);
  drawPictures();
  watch();
  performance.mark("usable");
  document.documentElement.dataset.usable = "yes";
}

open().catch(fail);
