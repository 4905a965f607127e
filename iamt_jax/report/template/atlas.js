"use strict";
// The atlas: images with and without an attribute, where its masks look, what speaks for and against it, and its top channels' masks.

const ATLAS = DATA.atlas;
const signed = (x) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(2)}`;

function picture(source, text, opacity) {
  const image = new Image();
  image.src = source;
  image.alt = text;
  image.style.opacity = opacity;
  return image;
}

function tile(photograph, overlay, opacity, text, caption) {
  const figure = document.createElement("figure"), stack = document.createElement("div");
  const words = document.createElement("figcaption");
  stack.className = "stack";
  stack.append(picture(photograph, text, 1));
  if (overlay) stack.append(picture(overlay, "", opacity));
  words.textContent = caption;
  figure.append(stack, words);
  return figure;
}

const TRUTH = { 1: "has it", 0: "does not have it" };
let shownImage = 0;

const truth = (k, i) => TRUTH[ATLAS.labels[k][i]] ?? "not annotated";
const answered = (logit) => `${logit > 0 ? "yes" : "no"}, ${percent(1 / (1 + Math.exp(-logit)))}`;

function choice(k, i, opacity) {
  const button = document.createElement("button"), name = ATLAS.names[k];
  button.type = "button";
  button.setAttribute("aria-pressed", i === shownImage);
  button.append(tile(ATLAS.photographs[ATLAS.rows[k][i]], ATLAS.mask_maps[k][i], opacity,
    `Image ${ATLAS.rows[k][i]}: where the masks of ${name} look`, `${truth(k, i)}; network: ${answered(ATLAS.logits[k][i])}`));
  if (ATLAS.labels[k][i] >= 0 && ATLAS.labels[k][i] !== Number(ATLAS.logits[k][i] > 0)) button.classList.add("wrong");
  button.addEventListener("click", () => {
    shownImage = i;
    showAtlas();
    at("atlas-images").children[i].focus();
  });
  return button;
}

function showAtlas() {
  const k = Number(at("atlas-attribute").value), i = shownImage, name = ATLAS.names[k];
  const opacity = Number(at("atlas-opacity").value) / 100, photograph = ATLAS.photographs[ATLAS.rows[k][i]];
  at("atlas-images").replaceChildren(...ATLAS.rows[k].map((_, image) => choice(k, image, opacity)));
  at("atlas-readout").textContent =
    `${name}, image ${ATLAS.rows[k][i]} of the split: ${truth(k, i)}; the network says ${answered(ATLAS.logits[k][i])} (logit ${signed(ATLAS.logits[k][i])})`;
  const tiles = [
    tile(photograph, null, 1, `Image ${ATLAS.rows[k][i]}`, "image"),
    tile(photograph, ATLAS.summary[k][i], 1, `What speaks for and against ${name}`, "by gradients: for (purple), against (orange)"),
  ];
  tiles[1].firstChild.classList.add("grey"); // or skin and hair would look like orange
  ATLAS.channels[k].forEach((channel, c) => {
    tiles.push(tile(photograph, ATLAS.masks[k][i][c], opacity, `Mask of channel ${channel} for ${name}`,
      `channel ${channel}: ${signed(ATLAS.contributions[k][i][c])}`));
  });
  at("atlas-tiles").replaceChildren(...tiles);
}

// Fig. 4 of the paper: attributes as columns, top three channels as rows.
function showFigure4() {
  const table = at("figure-4"), head = table.createTHead().insertRow(), body = table.createTBody();
  const cell = (row, content, caption) => {
    const found = row.insertCell();
    found.append(content);
    if (caption) found.append(document.createElement("br"), caption);
  };
  const titled = (row, text, scope) => {
    const title = document.createElement("th");
    title.scope = scope;
    title.textContent = text;
    row.append(title);
  };
  titled(head, "", "col");
  ATLAS.names.forEach((name) => titled(head, name, "col"));
  const figure = ATLAS.figure_4, faces = body.insertRow();
  titled(faces, "image", "row");
  ATLAS.names.forEach((name, k) => {
    const i = figure.images[k], told = truth(k, i);
    cell(faces, picture(ATLAS.photographs[ATLAS.rows[k][i]], `${name}: ${told}`, 1), ATLAS.labels[k][i] === 1 ? "" : told);
  });
  figure.masks[0].forEach((_, c) => {
    const row = body.insertRow();
    titled(row, `top ${c + 1}`, "row");
    ATLAS.names.forEach((name, k) => {
      const channel = ATLAS.channels[k][c], most = figure.most[k][c].toFixed(2);
      cell(row, picture(figure.masks[k][c], `Mask of channel ${channel} for ${name}`, 1), `${channel} (${most})`);
    });
  });
}

at("atlas-attribute").addEventListener("input", () => {
  shownImage = 0;
  showAtlas();
});
at("atlas-opacity").addEventListener("input", showAtlas);
showAtlas();
showFigure4();
