"use strict";
// The atlas: a photograph, where the masks of an attribute look, what speaks for and against it, and its top channels' masks.

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

function showAtlas() {
  const k = Number(at("atlas-attribute").value), i = Number(at("atlas-image").value);
  const opacity = Number(at("atlas-opacity").value) / 100, photograph = ATLAS.photographs[i];
  const name = ATLAS.names[k], logit = ATLAS.logits[k][i];
  const probability = 1 / (1 + Math.exp(-logit));
  at("atlas-readout").textContent =
    `${name}, image ${i + 1}: ${logit > 0 ? "yes" : "no"}, logit ${signed(logit)}, probability ${percent(probability)}`;
  const tiles = [
    tile(photograph, null, 1, `Image ${i + 1}`, "image"),
    tile(photograph, ATLAS.mask_maps[k][i], opacity, `Image ${i + 1}: where the masks of ${name} look`, "masks, weighted by importance"),
    tile(photograph, ATLAS.summary[k][i], 1, `Image ${i + 1}: what speaks for and against ${name}`, "by gradients: for (purple), against (orange)"),
  ];
  tiles[2].firstChild.classList.add("grey"); // or skin and hair would look like orange
  ATLAS.channels[k].forEach((channel, c) => {
    tiles.push(tile(photograph, ATLAS.masks[k][i][c], opacity, `Image ${i + 1}: mask of channel ${channel} for ${name}`,
      `channel ${channel}: ${percent(ATLAS.shares[k][c])} of the logit on average, ${signed(ATLAS.contributions[k][i][c])} here`));
  });
  at("atlas-tiles").replaceChildren(...tiles);
}

["atlas-attribute", "atlas-image", "atlas-opacity"].forEach((id) => at(id).addEventListener("input", showAtlas));
showAtlas();
