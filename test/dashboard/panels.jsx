/**
 * Draws `window.dashboard`, Grafana's own JSON with the answers of Prometheus in each target's
 * `answer`, with Grafana's own panels. Built and opened by `picture.ts`, which installs what is
 * imported here.
 */
import {
  createTheme,
  dateTime,
  FieldType,
  getDisplayProcessor,
  getFieldDisplayValues,
  toDataFrame,
} from "@grafana/data";
import {
  BigValue,
  GlobalStyles,
  PanelChrome,
  ThemeContext,
  TimeSeries,
  VizRepeater,
} from "@grafana/ui";
import { createRoot } from "react-dom/client";

const CELL_PX = 38;
const GAP_PX = 8;
const { dashboard, range } = window;
const columnPx = (document.documentElement.clientWidth - 2 * GAP_PX) / 24;
const theme = createTheme({ colors: { mode: "dark" } });
const timeRange = {
  from: dateTime(range.fromMs),
  to: dateTime(range.toMs),
  raw: { from: dateTime(range.fromMs), to: dateTime(range.toMs) },
};
const replaceVariables = (text) => text;

function named(format, labels) {
  return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? "");
}

function framesOf({ targets, fieldConfig: { defaults } }) {
  const series = targets.flatMap(({ answer, legendFormat, refId }) =>
    answer.map((it) => ({ ...it, refId, name: named(legendFormat, it.metric) })),
  );
  return series.map(({ metric, values, refId, name }, seriesIndex) => {
    const frame = toDataFrame({
      refId,
      name,
      fields: [
        { name: "Time", type: FieldType.time, values: values.map(([s]) => s * 1000) },
        {
          name: "Value",
          type: FieldType.number,
          labels: metric,
          config: { color: { mode: "palette-classic" }, ...defaults, displayNameFromDS: name },
          values: values.map(([, value]) => Number(value)),
        },
      ],
    });
    for (const field of frame.fields) {
      field.state = { seriesIndex };
      field.display = getDisplayProcessor({ field, theme, timeZone: "utc" });
    }
    return frame;
  });
}

function Stat({ panel, width, height }) {
  const { options, fieldConfig } = panel;
  const values = () =>
    getFieldDisplayValues({
      fieldConfig,
      reduceOptions: options.reduceOptions,
      replaceVariables,
      theme,
      data: framesOf(panel),
      timeZone: "utc",
    });
  return (
    <VizRepeater
      source={panel}
      getValues={values}
      width={width}
      height={height}
      itemSpacing={3}
      autoGrid
      orientation="auto"
      renderValue={({ value, width, height, count }) => (
        <BigValue
          value={value.display}
          width={width}
          height={height}
          count={count}
          theme={theme}
          colorMode={options.colorMode ?? "value"}
          textMode={options.textMode ?? "auto"}
          graphMode="none"
          justifyMode="auto"
        />
      )}
    />
  );
}

function Graph({ panel, width, height }) {
  const frames = framesOf(panel);
  if (frames.length === 0) return <p style={{ padding: 2 * GAP_PX }}>No data</p>;
  return (
    <TimeSeries
      frames={frames}
      timeRange={timeRange}
      timeZone="utc"
      width={width}
      height={height}
      legend={{ calcs: [], showLegend: true, ...panel.options.legend }}
      options={panel.options}
    />
  );
}

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const place = {
    position: "absolute",
    left: GAP_PX + x * columnPx,
    top: GAP_PX + y * CELL_PX,
  };
  if (panel.type === "row") return <h4 style={{ ...place, margin: 0 }}>{panel.title}</h4>;
  const Inside = panel.type === "stat" ? Stat : Graph;
  return (
    <div style={place}>
      <PanelChrome title={panel.title} width={w * columnPx - GAP_PX} height={h * CELL_PX - GAP_PX}>
        {(width, height) => <Inside panel={panel} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

const bottom = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
document.body.style.cssText = `margin: 0; height: ${bottom * CELL_PX + 2 * GAP_PX}px; background:
  ${theme.colors.background.canvas}; color: ${theme.colors.text.primary}; font-family: sans-serif`;
createRoot(document.body.appendChild(document.createElement("main"))).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    {dashboard.panels.map((panel) => (
      <Panel key={panel.id ?? panel.title} panel={panel} />
    ))}
  </ThemeContext.Provider>,
);
