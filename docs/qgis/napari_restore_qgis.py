"""Restore a raster in QGIS with the command line of napari-restore.

A Processing script for QGIS 3.22 or newer: *Processing Toolbox → Scripts → Add Script to Toolbox…*.
napari-restore is installed in a Python environment of its own; QGIS needs none of its packages.
"""

from __future__ import annotations

import json
import os
import queue
import shlex
import shutil
import subprocess
import threading

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
    QgsProcessingUtils,
    QgsVectorFileWriter,
)

MODELS = (
    "atmosphere-aerial",
    "dcp",
    "hot",
    "htm",
    "atmosphere",
    "haze-unet",
    "inf-dehaze-small",
    "andehazeformer-small",
)
# With QGIS's own values, the libraries of the other environment would find QGIS's data and modules.
FOREIGN = ("PYTHONHOME", "PYTHONPATH", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_DATA", "PROJ_LIB")


class Restore(QgsProcessingAlgorithm):
    """Write a restored copy of a raster, with its georeference, nodata and band names."""

    def name(self):
        return "restore"

    def displayName(self):
        return "Restore raster (remove haze)"

    def group(self):
        return "napari-restore"

    def groupId(self):
        return "napari_restore"

    def createInstance(self):
        return Restore()

    def shortHelpString(self):
        return (
            "Removes haze from a raster by one of the models of napari-restore, by tiles within "
            "a memory budget. The result has the CRS, grid, data type, nodata and bands of the "
            "input; invalid pixels stay as they are. The result is not calibrated: do not compute "
            "reflectance from it.\n\n"
            "Sensor and Bands are only needed where the names of the bands do not say which is "
            "red, green and blue, such as landsat8 and red=4,green=3,blue=2.\n\n"
            "Further options are those of `napari-restore restore`, such as "
            "--other-bands copy --black 7273.\n\n"
            "A run that was cancelled goes on where it stopped when it is started again with the "
            "same values."
        )

    def initAlgorithm(self, config=None):
        add = self.addParameter
        add(QgsProcessingParameterRasterLayer("INPUT", "Input layer"))
        add(
            QgsProcessingParameterEnum(
                "MODEL", "Model", list(MODELS), defaultValue=MODELS[0], usesStaticStrings=True
            )
        )
        add(
            QgsProcessingParameterNumber(
                "STRENGTH",
                "Strength",
                QgsProcessingParameterNumber.Double,
                defaultValue=1.0,
                minValue=0.0,
                maxValue=1.0,
            )
        )
        add(QgsProcessingParameterString("SENSOR", "Sensor", optional=True))
        add(QgsProcessingParameterString("BANDS", "Bands", optional=True))
        add(QgsProcessingParameterExtent("EXTENT", "Extent to restore and write", optional=True))
        add(
            QgsProcessingParameterVectorLayer(
                "EXCLUDE",
                "Polygons to leave unchanged (clouds)",
                [QgsProcessing.TypeVectorPolygon],
                optional=True,
            )
        )
        for advanced in (
            QgsProcessingParameterString("MEMORY", "Memory budget", "2GiB", optional=True),
            QgsProcessingParameterString("OPTIONS", "Further options", optional=True),
            QgsProcessingParameterFile(
                "PROGRAM",
                "Program, where napari-restore is not on the PATH",
                optional=True,
                # QGIS's own default asks for a dot in the name.
                fileFilter="All files (*)",
            ),
        ):
            advanced.setFlags(advanced.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
            add(advanced)
        add(QgsProcessingParameterRasterDestination("OUTPUT", "Restored"))
        add(
            QgsProcessingParameterFileDestination(
                "RECORD",
                "Record of the run",
                "JSON files (*.json)",
                optional=True,
                createByDefault=False,
            )
        )

    def processAlgorithm(self, parameters, context, feedback):
        layer = self.parameterAsRasterLayer(parameters, "INPUT", context)
        if layer is None or layer.dataProvider().name() != "gdal":
            raise QgsProcessingException("The input must be a raster file.")
        output = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        command = [
            self._program(parameters, context),
            "restore",
            # A source may have open options behind the path.
            layer.source().split("|")[0],
            *("--output", output, "--overwrite", "--progress", "json"),
            *("--model", self.parameterAsEnumString(parameters, "MODEL", context)),
            *("--strength", repr(self.parameterAsDouble(parameters, "STRENGTH", context))),
        ]
        for name in ("SENSOR", "BANDS", "MEMORY"):
            if text := self.parameterAsString(parameters, name, context).strip():
                command += [f"--{name.lower()}", text]
        if record := self.parameterAsFileOutput(parameters, "RECORD", context):
            command += ["--record", record]
        if parameters.get("EXTENT"):
            box = self.parameterAsExtent(parameters, "EXTENT", context, layer.crs())
            box = box.intersect(layer.extent())
            if box.isEmpty():
                raise QgsProcessingException("The extent is outside of the input layer.")
            corners = (box.xMinimum(), box.yMaximum(), box.xMaximum(), box.yMinimum())
            command += ["--projwin", *map(repr, corners)]
        exclude = self.parameterAsVectorLayer(parameters, "EXCLUDE", context)
        if exclude is not None:
            command += ["--exclude", _as_geojson(exclude, context)]
        command += shlex.split(self.parameterAsString(parameters, "OPTIONS", context))
        feedback.pushCommandInfo(shlex.join(command))
        _run(command, feedback)
        if context.willLoadLayerOnCompletion(output):
            _SameStyle.of(layer).apply_to(context.layerToLoadOnCompletionDetails(output))
        return {"OUTPUT": output, "RECORD": record}

    def _program(self, parameters, context):
        named = self.parameterAsFile(parameters, "PROGRAM", context)
        program = shutil.which(named or "napari-restore")
        if program is None:
            raise QgsProcessingException(
                f"{named or 'napari-restore'} was not found. Install it in an environment of its "
                "own, and name the program under Advanced parameters, such as "
                "/home/me/restore/bin/napari-restore."
            )
        return program


class _SameStyle(QgsProcessingLayerPostProcessorInterface):
    """Show a result in the style of its source, as differences of contrast hide those of haze."""

    # QGIS keeps no reference.
    _alive = None

    @classmethod
    def of(cls, layer):
        cls._alive = cls()
        # The layer itself may be gone by then.
        cls._alive.renderer = layer.renderer().clone()
        return cls._alive

    def apply_to(self, details):
        details.setPostProcessor(self)

    def postProcessLayer(self, layer, context, feedback):
        layer.setRenderer(self.renderer.clone())
        layer.triggerRepaint()


def _as_geojson(layer, context):
    """Return the path of a GeoJSON of a layer, which napari-restore reads without more packages."""
    path = QgsProcessingUtils.generateTempFilename("exclude.geojson")
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GeoJSON"
    crs = QgsCoordinateReferenceSystem("EPSG:4326")
    transforms = context.transformContext()
    options.ct = QgsCoordinateTransform(layer.crs(), crs, transforms)
    failed = QgsVectorFileWriter.writeAsVectorFormatV3(layer, path, transforms, options)
    if failed[0] != QgsVectorFileWriter.NoError:
        raise QgsProcessingException(f"The polygons could not be written: {failed[1]}")
    return path


def _run(command, feedback):
    """Run a command; its progress and notes go to `feedback`, its error becomes an exception."""
    environment = {name: text for name, text in os.environ.items() if name not in FOREIGN}
    error = ""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        encoding="utf-8",
        errors="replace",
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    ) as process:
        lines = queue.Queue()
        reader = threading.Thread(target=_forward, args=(process.stderr, lines))
        reader.start()
        while reader.is_alive() or not lines.empty():
            if feedback.isCanceled():
                process.terminate()
            try:
                error = _report(lines.get(timeout=0.2), feedback) or error
            except queue.Empty:
                continue
    if feedback.isCanceled():
        feedback.pushInfo("Cancelled; the same run goes on where it stopped.")
    elif process.returncode:
        raise QgsProcessingException(error or f"The command ended with {process.returncode}.")


def _forward(stream, lines):
    for line in stream:
        lines.put(line)


def _report(line, feedback):
    """Show an event of `--progress json`; return what is none."""
    try:
        event = json.loads(line)
    except ValueError:
        return line.strip()
    if event["event"] == "Progress" and event["total"]:
        feedback.setProgress(100 * event["done"] / event["total"])
    elif event["event"] == "Phase":
        feedback.setProgressText(event["name"])
    elif event["event"] == "Note":
        feedback.pushInfo(event["text"])
    return ""
