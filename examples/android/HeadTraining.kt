// What fbkit's runtime does with a .pte bundle, in an app: features by the frozen body, the head trained by the bundle's
// step graph, predictions. Of ExecuTorch only Module, EValue and Tensor are used, no training extension:
//
//     implementation("org.pytorch:executorch-android:1.5.1")   // the version that exported the bundle
//
// docs/bundle.md describes the files, docs/profile-format.md the order of pictures. Not compiled or run by fbkit's tests.

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.exp
import org.json.JSONObject
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

/** Row by row: weight [classes, features], bias [classes]. */
class Head(val weight: FloatArray, val bias: FloatArray)

/** A bundle's folder, which the app has checked: sizes, SHA-256 and, if it comes from elsewhere, its signature. */
class Bundle(folder: File) : AutoCloseable {
    private val manifest = JSONObject(File(folder, "manifest.json").readText())
    private val input = manifest.getJSONObject("input")
    private val step = manifest.getJSONObject("head_step")
    val classes: List<String> = manifest.getJSONArray("classes").let { names -> List(names.length(), names::getString) }
    val features: Int = manifest.getInt("features")
    val channels: Int = input.getInt("channels")
    val height: Int = input.getInt("height")
    val width: Int = input.getInt("width")
    private val mean = channelValues("mean")
    private val std = channelValues("std")
    val rows: Int = step.getInt("batch_size")
    val stepClasses: Int = step.getInt("classes")
    val shipped: Head = readHead(File(folder, manifest.getJSONObject("head").getString("file")))
    private val body = Module.load(File(folder, manifest.getJSONObject("body").getString("file")).path)
    private val stepGraph = Module.load(File(folder, step.getString("file")).path)

    /** Features of one upright picture of height x width, as R, G, B (or one grey value) of each pixel, row by row. */
    fun featuresOf(pixels: IntArray): FloatArray {
        val area = height * width
        val image = FloatArray(channels * area)
        for (channel in 0 until channels) {
            for (place in 0 until area) {
                image[channel * area + place] = (pixels[place * channels + channel] / 255f - mean[channel]) / std[channel]
            }
        }
        val shape = longArrayOf(1, channels.toLong(), height.toLong(), width.toLong())
        return run(body, "b1", listOf(Tensor.fromBlob(image, shape)))[0].toTensor().dataAsFloatArray
    }

    /** One step of SGD: weight, bias and their momentum buffers as the step graph gives them back. */
    fun step(inputs: List<Tensor>): List<FloatArray> =
        run(stepGraph, "forward", inputs).drop(1).map { it.toTensor().dataAsFloatArray }

    override fun close() {
        body.destroy()
        stepGraph.destroy()
    }

    private fun channelValues(key: String): FloatArray =
        input.getJSONArray(key).let { values -> FloatArray(values.length()) { values.getDouble(it).toFloat() } }

    private fun run(module: Module, method: String, inputs: List<Tensor>): Array<EValue> =
        module.execute(method, *inputs.map { EValue.from(it) }.toTypedArray())

    /** safetensors: the header's length in 8 bytes, little-endian; the header in JSON; the tensors' bytes. */
    private fun readHead(file: File): Head {
        val data = ByteBuffer.wrap(file.readBytes()).order(ByteOrder.LITTLE_ENDIAN)
        val length = data.getLong().toInt()
        val header = JSONObject(String(data.array(), 8, length))
        fun tensor(name: String): FloatArray {
            val ends = header.getJSONObject(name).getJSONArray("data_offsets")
            data.position(8 + length + ends.getInt(0))
            return FloatArray((ends.getInt(1) - ends.getInt(0)) / 4) { data.getFloat() }
        }
        return Head(tensor("weight"), tensor("bias"))
    }
}

/** The order of [count] pictures in an epoch, counted from 1; docs/profile-format.md#the-shuffle. */
fun epochOrder(count: Int, seed: Long, epoch: Int): IntArray {
    var state = seed * 1_000_003L + epoch // wraps around, as it must
    val order = IntArray(count) { it }
    for (i in count - 1 downTo 1) {
        state += -0x61c8864680b583ebL // 0x9E3779B97F4A7C15
        var z = (state xor (state ushr 30)) * -0x40a7b892e31b1a47L // 0xBF58476D1CE4E5B9
        z = (z xor (z ushr 27)) * -0x6b2fb644ecceee15L // 0x94D049BB133111EB
        val j = java.lang.Long.remainderUnsigned(z xor (z ushr 31), i + 1L).toInt()
        order[i] = order[j].also { order[j] = order[i] }
    }
    return order
}

/** Fit the shipped head to pictures by SGD, as `fbkit personalize --solver sgd` does. */
fun fit(
    bundle: Bundle,
    pictures: List<FloatArray>, // their features
    labels: List<Int>, // places in bundle.classes
    epochs: Int,
    lr: Float,
    momentum: Float = 0.9f,
    seed: Long = 0
): Head {
    val (rows, all, wide) = Triple(bundle.rows, bundle.stepClasses, bundle.features)
    fun matrix(values: FloatArray) = Tensor.fromBlob(values, longArrayOf(all.toLong(), wide.toLong()))
    fun vector(values: FloatArray) = Tensor.fromBlob(values, longArrayOf(values.size.toLong()))
    // Rows of zeros, left out by the mask, fill the head up to the classes that the graph takes.
    val shippedWeight = bundle.shipped.weight.copyOf(all * wide)
    val shippedBias = bundle.shipped.bias.copyOf(all)
    val mask = FloatArray(all) { if (it < bundle.classes.size) 1f else 0f }
    var weight = shippedWeight
    var bias = shippedBias
    var weightBuffer = FloatArray(all * wide)
    var biasBuffer = FloatArray(all)
    for (epoch in 1..epochs) {
        for (batch in epochOrder(pictures.size, seed, epoch).toList().chunked(rows)) {
            // A smaller batch is filled up with rows of weight 0.
            val x = FloatArray(rows * wide)
            val y = LongArray(rows)
            val rowWeights = FloatArray(rows)
            batch.forEachIndexed { row, picture ->
                pictures[picture].copyInto(x, row * wide)
                y[row] = labels[picture].toLong()
                rowWeights[row] = 1f
            }
            val moved =
                bundle.step(
                    listOf(
                        Tensor.fromBlob(x, longArrayOf(rows.toLong(), wide.toLong())),
                        Tensor.fromBlob(y, longArrayOf(rows.toLong())),
                        vector(rowWeights),
                        vector(mask),
                        matrix(weight),
                        vector(bias),
                        matrix(weightBuffer),
                        vector(biasBuffer),
                        matrix(shippedWeight), // the anchor of the penalty, which is 0 here
                        vector(shippedBias),
                        vector(floatArrayOf(lr)),
                        vector(floatArrayOf(momentum)),
                        vector(floatArrayOf(0f)), // weight decay
                        vector(floatArrayOf(0f)) // penalty
                    )
                )
            weight = moved[0]
            bias = moved[1]
            weightBuffer = moved[2]
            biasBuffer = moved[3]
        }
    }
    return Head(weight.copyOf(bundle.shipped.weight.size), bias.copyOf(bundle.shipped.bias.size))
}

/** The probability of each class, from a picture's features. */
fun predict(head: Head, features: FloatArray): FloatArray {
    val logits = FloatArray(head.bias.size) { label ->
        var sum = head.bias[label]
        for (place in features.indices) sum += head.weight[label * features.size + place] * features[place]
        sum
    }
    val largest = logits.maxOf { it }
    val exponentials = logits.map { exp(it - largest) }
    return FloatArray(logits.size) { exponentials[it] / exponentials.sum() }
}
