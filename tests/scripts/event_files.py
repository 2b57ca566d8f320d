"""What TensorBoard reads in the folder of one stage: scalars, histograms and texts with their steps."""

import json
import sys

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util
except ImportError:
    sys.exit(77)

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "histograms": 0, "tensors": 0})
events.Reload()
tags = events.Tags()
print(
    json.dumps(
        {
            "scalars": {
                tag: [[event.step, event.wall_time, event.value] for event in events.Scalars(tag)]
                for tag in tags["scalars"]
            },
            "histograms": {
                tag: [
                    [event.step, event.histogram_value.num, event.histogram_value.bucket_limit, event.histogram_value.bucket]
                    for event in events.Histograms(tag)
                ]
                for tag in tags["histograms"]
            },
            "texts": {
                tag: [
                    [event.step, tensor_util.make_ndarray(event.tensor_proto).item().decode()]
                    for event in events.Tensors(tag)
                ]
                for tag in tags["tensors"]
                if events.SummaryMetadata(tag).plugin_data.plugin_name == "text"
            },
        }
    )
)
