"""CSS of the page: the report's colours, light and dark. Loads nothing from elsewhere."""

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
"""System fonts only."""

CSS = """
.gradio-container {
  --bar: #4b3a86; --faint: #575c60; --wrong: #a11616;
}
.dark .gradio-container, .gradio-container.dark {
  --bar: #b5a6ee; --faint: #a9adb0; --wrong: #ff9a8f;
}
.gradio-container { overflow: clip; }  /* Hidden, it could have no sticky part. */
.gradio-container h1 { font-size: 1.5rem; margin: 0; }
.head p { color: var(--faint); margin: 0.2rem 0 0; overflow-wrap: anywhere; }
.said, .note, .problem {
  margin: 0 0 0.6rem; line-height: 1.45; font-variant-numeric: tabular-nums;
}
.note { color: var(--faint); }
.problem { color: var(--wrong); font-weight: 600; }
.note, .problem { overflow-wrap: anywhere; }

#examples, #examples .gallery-container { height: auto; min-height: 0; }
#examples .grid-wrap {
  height: auto; min-height: 0; max-height: none; overflow: visible; padding: 0.5rem;
}
#examples .grid-container {
  grid-template-columns: repeat(6, minmax(0, 1fr)); grid-auto-rows: auto; gap: 0.4rem;
}
#examples button { aspect-ratio: 1; height: auto; }
#n .head, #n .min_value, #n .max_value { display: none; }
#said-n {
  padding: 0.5rem 0 0; margin-bottom: -1px; font-size: 0.9rem;
  background: var(--block-background-fill); color: var(--block-label-text-color);
}
#said-n b { float: right; font-variant-numeric: tabular-nums; color: var(--body-text-color); }

.compared, .tiles { display: grid; gap: 0.8rem; grid-template-columns: repeat(3, minmax(0, 1fr)); }
.tiles { margin-bottom: 1rem; }
.tiles.masks { grid-template-columns: repeat(5, minmax(0, 1fr)); }
.compared { max-width: 46rem; }
.compared figure, .tiles figure { margin: 0; }
.compared figcaption, .tiles figcaption {
  font-size: 0.85rem; line-height: 1.35; color: var(--faint); margin-top: 0.25rem;
}
.stack { position: relative; aspect-ratio: 1; border-radius: 6px; overflow: hidden; }
.stack img { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; }
.stack.empty {
  border: 1px dashed var(--border-color-primary); display: grid; place-items: center;
}
.stack.empty span { padding: 0.5rem; text-align: center; color: var(--faint); }
.verdict { margin: 0.6rem 0 0; font-weight: 600; }
.verdict span { display: block; margin-bottom: 0.4rem; }
@media (min-width: 1000px) {
  #compared .prose { display: grid; grid-template-columns: 46rem 1fr; gap: 2rem; }
  .verdict { margin: 0; font-size: 1.15rem; }
}
progress { width: 100%; accent-color: var(--bar); }
.stack.grey img:first-child { filter: grayscale(1); }

.scroll {
  overflow: auto; max-height: 36rem; border: 1px solid var(--border-color-primary);
  border-radius: 8px;
}
.scroll:focus-visible { outline: 3px solid var(--bar); outline-offset: 2px; }
#table table, #curve table {
  border: 0; border-collapse: collapse; width: 100%; font-size: 0.9rem; margin: 0;
}
#table caption, #curve caption {
  text-align: left; color: var(--faint); font-size: 0.85rem; padding: 0.4rem 0.6rem;
}
#table tr, #table th, #table td, #curve tr, #curve th, #curve td {
  border: 0; text-align: right; font-variant-numeric: tabular-nums; font-weight: 400;
}
#table th, #table td { padding: 0.15rem 0.4rem; }
#curve th, #curve td { padding: 0.1rem 0.2rem; }
#curve caption { padding: 0.2rem 0; }
#curve table { font-size: 0.85rem; }
#table thead th, #curve thead th { color: var(--faint); }
#table thead th { position: sticky; top: 0; background: var(--background-fill-primary); }
#table th:first-child, #curve th:first-child { text-align: left; }
#table th:first-child { padding-left: 0.6rem; }
#table tbody tr { border-top: 1px solid var(--border-color-primary); }
#table .bar { width: 30%; min-width: 2rem; padding: 0 0.6rem 0 0; }
.bar i { display: block; height: 0.7rem; border-radius: 2px; background: var(--bar); }
#table .label { color: var(--faint); padding-right: 1.2rem; }
#table td.bad { color: var(--wrong); font-weight: 600; }
#table td.good { padding-right: 1.5rem; }
#table td.same { color: var(--faint); padding-right: 1.5rem; }
#table thead .number { padding-right: 1.5rem; }

svg .rule { stroke: var(--border-color-primary); stroke-width: 1; }
svg text { fill: var(--faint); font-size: 12px; }
svg .identity { fill: none; stroke: var(--faint); stroke-width: 1.2; stroke-dasharray: 4 4; }
svg .bent { fill: none; stroke: var(--bar); stroke-width: 2.5; }
svg .band { fill: var(--bar); opacity: 0.22; }
#curve svg { width: 100%; max-width: 30rem; height: auto; display: block; }

@media (max-width: 640px) {
  .gradio-container .main { padding: 1rem 0.8rem !important; }
  #compared {
    position: sticky; top: 0; z-index: 1000; padding: 0.4rem 0;
    background: var(--body-background-fill);
  }
  .compared, .tiles { gap: 0.4rem; }
  .compared figcaption { font-size: 0.75rem; line-height: 1.25; }
  .tiles.masks { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .verdict { font-size: 0.85rem; line-height: 1.3; margin-top: 0.3rem; }
  .verdict span { margin: 0; }
  .verdict span + span { display: none; }  /* The captions say it, too. */
  .columns > .column { display: contents; }
  #curve { order: 3; }
  #table table { font-size: 0.8rem; }
  #table th, #table td { padding: 0.15rem 0.1rem; }
  #table td.good, #table td.same { padding-right: 1rem; }
  #table thead .number { padding-right: 0.3rem; font-size: 0.72rem; }
  #table th:first-child, #table caption { padding-left: 0.4rem; }
  #table .label { padding-right: 0.2rem; }
  #table .bar { display: none; }
}
"""
