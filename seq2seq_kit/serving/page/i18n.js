// The words of the page in both languages. The server's own messages are in English.

const TEXTS = {
  skip: ["Skip to the text", "跳到正文"],
  compare: ["Compare", "对比"],
  theme: ["Colors", "配色"],
  theme_auto: ["As the system", "跟随系统"],
  theme_light: ["Light", "浅色"],
  theme_dark: ["Dark", "深色"],
  language: ["Language", "语言"],
  interface: ["Interface", "接口"],
  token_title: ["This server needs a token", "此服务器需要令牌"],
  token_help: [
    "It is what --token or S2S_TOKEN was when the server was started.",
    "即启动服务器时 --token 或 S2S_TOKEN 的值。",
  ],
  token: ["Token", "令牌"],
  token_use: ["Use it", "使用"],
  token_wrong: ["This is not the token.", "令牌不对。"],
  workspace: ["Text {number}", "文本 {number}"],
  model: ["Model", "模型"],
  export_note: [
    "This model is an export of an earlier version. To look inside it, export the run again, or serve the run.",
    "此模型由旧版本导出。要查看其内部，请重新导出，或改为提供训练它的 run。",
  ],
  input_translation: ["Text to translate", "要翻译的文本"],
  input_continuation: ["Beginning of a text", "文本的开头"],
  output: ["Output", "输出"],
  output_help: [
    "Click a word for what could be in its place. Left and right move among the words, Enter opens.",
    "点击一个词，查看此处还可能是什么。左右键在词间移动，回车打开。",
  ],
  writing: ["Writing …", "正在写……"],
  thinking: ["Reading the model …", "正在读取模型……"],
  first_token: ["First token after {ms} ms", "首个词元用时 {ms} 毫秒"],
  whole: ["{ms} ms", "{ms} 毫秒"],
  stop: ["Stop", "停止"],
  stopped: ["Stopped", "已停止"],
  again: ["Write another", "换一个"],
  seed: ["Seed", "种子"],
  empty: ["Type a text: the output appears here as it is written.", "输入文本，输出会在此逐步出现。"],
  empty_output: ["The model writes nothing here.", "模型在此没有写任何内容。"],
  surprise: ["Surprise", "意外程度"],
  surprise_low: ["expected", "意料之中"],
  surprise_high: ["surprising", "出乎意料"],
  numbers: ["Show numbers", "显示数字"],
  word_label: ["{word}, probability {percent}", "{word}，概率 {percent}"],
  word_forced: ["{word}, forced", "{word}，强制"],
  end: ["end", "结束"],
  end_label: ["end of the text, probability {percent}", "文本结束，概率 {percent}"],
  choices: ["In place of “{word}”", "代替“{word}”"],
  choices_end: ["In place of the end", "代替结束"],
  choose_label: ["Write {word} here and go on, probability {percent}", "在此写{word}并继续，概率 {percent}"],
  current: ["written", "已写"],
  close: ["Close", "关闭"],
  own_word: ["Another beginning", "自己写开头"],
  go_on: ["Go on from here", "从此继续"],
  forced: ["Forced beginning: {text}", "强制的开头：{text}"],
  release: ["Let go", "取消强制"],
  views: ["Views", "视图"],
  tab_nbest: ["Best outputs", "候选输出"],
  tab_beam: ["Beam", "束搜索"],
  tab_attention: ["Attention", "注意力"],
  tab_gates: ["Gates", "门"],
  tab_similar: ["Similar lines", "相似的句子"],
  nbest_number: ["How many", "数量"],
  nbest_score: ["score", "得分"],
  nbest_prob: ["log-probability", "对数概率"],
  nbest_cut: ["cut at the limit", "已达长度上限"],
  nbest_use: ["Show this one above", "在上方显示"],
  nbest_samples: ["Samples; each is drawn independently.", "采样；每个独立抽取。"],
  nbest_beam: ["The best of the beam; a higher score is better.", "束搜索中最好的；得分越高越好。"],
  nothing: ["Nothing to show yet: write something first.", "还没有内容：请先写点什么。"],
  attention_help: [
    "A row is a token that is written, a column a token that is read; a larger dot is more attention. Drag a dot along its row, or choose a row and move its sliders: the model then looks there.",
    "每行是写出的词元，每列是读入的词元；圆点越大，注意力越多。沿行拖动圆点，或选择一行并移动滑块：模型就会看那里。",
  ],
  attention_row: ["Attention when “{word}” was written", "写“{word}”时的注意力"],
  attention_choose: ["Row “{word}”: looks at {most}", "行“{word}”：看向{most}"],
  attention_write: ["Write with this attention", "按此注意力写"],
  attention_reset: ["As the model had it", "恢复原样"],
  attention_none: ["This model has no attention: it reads and writes one text.", "此模型没有注意力：它读写同一个文本。"],
  attention_changed: ["changed", "已修改"],
  changed_output: ["With the changes", "修改后"],
  same_output: ["The same output as before.", "输出与之前相同。"],
  gates_help: [
    "Each track shows a part of the layer over time: the line is the mean over its units, the band their middle 80 %. A slider scales the part in every step, and the model writes again.",
    "每条轨迹是该层的一个部分随时间的变化：线是各单元的均值，带是中间的 80 %。滑块在每一步缩放该部分，模型随即重写。",
  ],
  layer: ["Layer", "层"],
  part_input_gate: ["Input gate", "输入门"],
  part_forget_gate: ["Forget gate", "遗忘门"],
  part_output_gate: ["Output gate", "输出门"],
  part_update_gate: ["Update gate", "更新门"],
  part_reset_gate: ["Reset gate", "重置门"],
  part_candidate: ["Candidate", "候选值"],
  part_cell: ["Cell", "记忆单元"],
  part_hidden: ["Hidden state", "隐藏状态"],
  scale: ["Scale", "缩放"],
  scale_label: ["Scale of {part}", "{part}的缩放"],
  hold: ["Hold", "固定"],
  hold_label: ["Hold {part} at a value", "将{part}固定为某值"],
  unchanged: ["unchanged", "不变"],
  times: ["× {value}", "× {value}"],
  held_at: ["= {value}", "= {value}"],
  mode: ["Sliders", "滑块"],
  mode_scale: ["scale", "缩放"],
  mode_hold: ["hold at a value", "固定为某值"],
  reset_gates: ["Reset all", "全部还原"],
  units_of: ["Units of {part}", "{part}的单元"],
  units_show: ["Units", "单元"],
  units_label: ["Show the units of {part}", "显示{part}的单元"],
  units_help: [
    "The units that change most. Choose some: sliders then change only these.",
    "变化最大的单元。选择一些：滑块就只改变它们。",
  ],
  units_other: ["Another unit", "其他单元"],
  units_add: ["Add", "添加"],
  units_clear: ["All units", "全部单元"],
  units_chosen: ["Sliders change units {units} of this layer.", "滑块改变本层的单元 {units}。"],
  unit_label: ["Unit {unit}: from {low} to {high}", "单元 {unit}：从 {low} 到 {high}"],
  track_label: ["{part}: mean {mean}, from {low} to {high}", "{part}：均值 {mean}，从 {low} 到 {high}"],
  beam_help: [
    "How the search found its outputs, from left to right. A thicker line is a likelier token; the best output is bold, one that was given up is gray.",
    "搜索如何找到输出，从左到右。线越粗，词元越可能；最佳输出为粗体，放弃的为灰色。",
  ],
  beam_size: ["Beam size", "束宽"],
  beam_find: ["Search", "搜索"],
  beam_label: ["Tree of the beam search, with {number} outputs", "束搜索的树，{number} 个输出"],
  beam_best: ["best", "最佳"],
  similar_help: [
    "Training lines whose state is nearest to that of this text.",
    "训练数据中状态与此文本最接近的句子。",
  ],
  similar_find: ["Find similar lines", "查找相似的句子"],
  similar_state: ["By the state of the", "依据"],
  similar_word: ["At the token", "词元"],
  state_decoder: ["decoder", "解码器的状态"],
  state_encoder: ["encoder", "编码器的状态"],
  state_context: ["context", "上下文（注意力）"],
  similar_distance: ["similarity", "相似度"],
  similar_line: ["line {line}", "第 {line} 行"],
  different: ["{word}, only here", "{word}，仅此处有"],
  compare_help: ["Words that only one of the two has are underlined.", "只在其中一个出现的词带下划线。"],
  no_answer: ["The server does not answer. Is it still running?", "服务器没有应答。它还在运行吗？"],
  server_says: ["The server says: ", "服务器说："],
  dismiss: ["Dismiss", "知道了"],
  no_models: ["The server has no models.", "服务器没有模型。"],
};

const LANGUAGES = { en: 0, zh: 1 };
let language = "en";
const listeners = new Set();

/** Returns a text in the language of the page, with its {values}. */
export function t(name, values = {}) {
  const text = TEXTS[name][LANGUAGES[language]];
  return text.replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

/** Returns the language of the page. */
export function currentLanguage() {
  return language;
}

/** Chooses the language, and writes all texts that are marked with `data-text` again. */
export function setLanguage(name) {
  language = name in LANGUAGES ? name : "en";
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = t(element.dataset.text);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", t(element.dataset.label));
  }
  for (const listener of listeners) listener();
}

/** Calls a function whenever the language changes. */
export function onLanguage(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Returns a share as percent, with a digit more where it is small. */
export function percent(share) {
  const value = share * 100;
  const digits = value >= 99.95 || value < 0.005 ? 0 : value < 1 ? 2 : value < 10 ? 1 : 0;
  return `${value.toLocaleString(language, { maximumFractionDigits: digits })} %`;
}

/** Returns a number with at most two digits after the point. */
export function number(value, digits = 2) {
  return value.toLocaleString(language, { maximumFractionDigits: digits });
}
